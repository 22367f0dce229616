"""A JSON file is read value by value, and a fault is named with its place."""

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.imports.errors import ImportFormatError
from audit.imports.json_values import MAX_NESTING, json_values
from tests.support.exports.conversations import LANGUAGES
from tests.support.exports.files import InPieces

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def values(data: bytes, size: int = 64 * 1024) -> list[Any]:
    return [value for _, value in json_values(InPieces(data, size))]


def refusal(data: bytes, **options: Any) -> tuple[int, str]:
    """Return the number of values before a fault, and its text."""
    numbers = [0]
    try:
        numbers.extend(number for number, _ in json_values(BytesIO(data), **options))
    except ImportFormatError as error:
        return numbers[-1], str(error)
    pytest.fail("The file has no fault.")


@given(given_values=st.lists(ANY_JSON, max_size=5), size=st.integers(1, 50))
def test_values_are_those_of_pythons_own_parser(given_values: list[Any], size: int) -> None:
    assert values(json.dumps(given_values).encode(), size) == given_values
    assert values(json.dumps(given_values, ensure_ascii=False, indent=1).encode(), size) == given_values


@pytest.mark.parametrize(
    "data",
    [
        b'[{"a": 1}, {"a": 2}]',
        b'\xef\xbb\xbf[{"a": 1}, {"a": 2}]\n',
        b'{"a": 1}\n{"a": 2}',
        b'{"a": 1}\r\n\r\n{"a": 2}\r\n',
        b'{"account": {"id": [1]}, "conversations": [{"a": 1}, {"a": 2}], "version": 3}',
    ],
)
def test_conversations_are_in_an_array_or_on_lines(data: bytes) -> None:
    assert list(json_values(BytesIO(data))) == [(1, {"a": 1}), (2, {"a": 2})]


def test_one_object_over_several_lines_is_one_conversation() -> None:
    assert values(b'{\n "a": {\n  "conversations": []\n },\n "conversations": {}\n}\n') == [
        {"a": {"conversations": []}, "conversations": {}}
    ]


def test_an_empty_array_has_no_conversations() -> None:
    assert values(b"[]") == []
    assert values(b'{"conversations": []}') == []


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
@pytest.mark.parametrize("size", [1, 7, 64 * 1024])
def test_texts_of_all_languages_are_kept(text: str, size: int) -> None:
    for ascii_only in (True, False):
        assert values(json.dumps([{text: text}], ensure_ascii=ascii_only).encode(), size) == [{text: text}]


@pytest.mark.parametrize(
    ("data", "before", "fault"),
    [
        (b"", 0, "empty, or not JSON"),
        (b" \n", 0, "empty, or not JSON"),
        (b"hello", 0, "not JSON"),
        (b"<html></html>", 0, "not JSON"),
        (b"\x89PNG\r\n\x1a\n", 0, "not UTF-8"),
        ("[]".encode("utf-16"), 0, "not UTF-8"),
        (b"[", 0, "conversation 1: the file ends here, in the middle of the JSON"),
        (b'[{"a": 1}, {"b": "it is cu', 1, "conversation 2: the file ends here, in the middle of the JSON"),
        (b'[{"a": 1}, {"b": 2}', 2, "conversation 3: the file ends here, in the middle of the JSON"),
        (b'{"a": 1}\n{"b": [', 1, "conversation 2: the file ends here, in the middle of the JSON"),
        (b'{"conversations": [{"a": 1}], "b"', 1, "conversation 2: the file ends here, in the middle of the JSON"),
        (b'[{"a": 1}, {"b": tru}]', 1, "conversation 2: not JSON"),
        (b'[{"a": 1}, {"b": "\0"}]', 1, "conversation 2: not JSON"),
        (b'[{"a": 1}]]', 1, "conversation 2: not JSON"),
        (b'[{"a": NaN}]', 0, "conversation 1: not JSON"),
        (b'[{"a": -Infinity}]', 0, "conversation 1: not JSON"),
        (b'[{"a": 1e400}]', 0, "conversation 1: a number is out of range"),
        (b'[{"a": -1e999999999}]', 0, "conversation 1: a number is out of range"),
        (b'[{"a": 1e99999999999999999999}]', 0, "conversation 1: a number is out of range"),
        (b'[{"a": 1' + b"0" * 5000 + b"}]", 0, "conversation 1: a number is out of range"),
        (b'[{"a": 9223372036854775808}]', 0, "conversation 1: a number is out of range"),
        (b'[{"a": "x"}, {"a": "\xff"}]', 1, "conversation 2: not UTF-8"),
        (
            rb'[{"a": "\ud83d\ude00"}, {"a": "\ud83d"}]',
            1,
            r"conversation 2: the escape \ud83d is half a character (a lone surrogate)",
        ),
        (b'[{"a": {"b\\n": 1, "b\\n": 2}}]', 0, r"conversation 1: the key 'b\n' is there twice in one object"),
        (b'{"a": 1, "a": 2}', 0, "conversation 1: the key 'a' is there twice in one object"),
        (b'[{"a": ' + b"[" * 10_000, 0, f"conversation 1: nested deeper than {MAX_NESTING} levels"),
        (b"[" * 10_000, 0, f"conversation 1: nested deeper than {MAX_NESTING} levels"),
        (b'{"a":' * 10_000, 0, f"conversation 1: nested deeper than {MAX_NESTING} levels"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_fault_is_named_with_its_place(data: bytes, before: int, fault: str) -> None:
    assert refusal(data) == (before, fault)


def test_as_many_levels_as_allowed_are_read() -> None:
    nested = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert values(f"[{nested}]".encode()) == json.loads(f"[{nested}]")


@pytest.mark.parametrize("many", [[[]] * 200, {str(number): {} for number in range(100)}], ids=["array", "object"])
def test_a_conversation_of_too_many_values_is_refused_and_a_file_of_them_is_not(many: Any) -> None:
    few = [{"a": [1, 2, 3]}] * 50
    assert [value for _, value in json_values(BytesIO(json.dumps(few).encode()), max_values=100)] == few
    data = json.dumps([*few[:2], many]).encode()
    assert refusal(data, max_values=100) == (2, "conversation 3: more than 100 values")
    assert refusal(json.dumps(many).encode() if isinstance(many, dict) else data[:-1], max_values=100)[1].endswith(
        "more than 100 values"
    )


def test_a_conversation_that_is_too_long_is_refused_and_a_long_file_is_not() -> None:
    short, long = {"a": "x" * 40}, {"a": "x" * 200}
    data = json.dumps([short] * 20).encode()
    assert [value for _, value in json_values(InPieces(data, 10), max_bytes=100)] == [short] * 20
    with pytest.raises(ImportFormatError, match=r"^conversation 3: longer than 100 bytes$"):
        list(json_values(InPieces(json.dumps([short, short, long]).encode(), 10), max_bytes=100))
