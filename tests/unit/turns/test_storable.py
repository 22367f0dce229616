"""A model's text and JSON, as PostgreSQL can store them."""

from typing import Any

import pytest

from turns.model.streams.storable import repaired_json, repaired_text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("wörld 🙂 \n\x01", "wörld 🙂 \n\x01"),
        ("a\0b", "a\ufffdb"),
        ("\ud83d", "\ufffd"),
        ("a\udc00b\0", "a\ufffdb\ufffd"),
        ("\ud83d\ude42", "🙂"),
    ],
)
def test_a_text_is_repaired_only_where_it_must_be(text: str, stored: str) -> None:
    assert repaired_text(text) == stored
    assert "\0" not in repaired_text(text)
    repaired_text(text).encode()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (2**70, 2**70),
        (0.5, 0.5),
        (1e16, 10**16),
        (-1.5e300, -15 * 10**299),
        (9007199254740993.0, 9007199254740992.0),
        ({"k\0": ["\ud800", {"n": 1e20}]}, {"k\ufffd": ["\ufffd", {"n": 10**20}]}),
    ],
)
def test_json_is_repaired_at_every_depth(value: Any, stored: Any) -> None:
    assert repaired_json(value) == stored
    assert type(repaired_json(value)) is type(stored)


def test_a_negative_zero_loses_its_sign() -> None:
    assert str(repaired_json(-0.0)) == "0.0"


def test_json_that_is_nested_too_deep_is_an_error() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RecursionError):
        repaired_json(value)
