"""Validated values: JSON that jsonb can hold, metadata, texts, titles and labels."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from domain.values import MAX_JSON_DEPTH, MAX_METADATA_BYTES, JsonObject, Label, Metadata, Text, Title, same_json

JSON: TypeAdapter[dict[str, Any]] = TypeAdapter(JsonObject)
METADATA: TypeAdapter[dict[str, Any]] = TypeAdapter(Metadata)


def nested(levels: int) -> dict[str, Any]:
    """Return objects nested `levels` deep, the innermost with a value."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a\0": 1},
        {"a": "\0"},
        {"a": ["x", {"b": "\0"}]},
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": {"b": float("-inf")}},
        {"a": "\ud800"},
        {"\udfff": 1},
    ],
)
def test_a_json_object_that_jsonb_cannot_hold_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JSON.validate_python(value)


@pytest.mark.parametrize("value", [{}, {"a": None, "b": [True, 1.5, -0.0, 2**70, "ü𝄞"]}, {"": {"": []}}])
def test_any_other_json_object_is_unchanged(value: dict[str, Any]) -> None:
    assert JSON.validate_python(value) == value


def test_json_has_a_limit_of_nesting() -> None:
    JSON.validate_python(nested(MAX_JSON_DEPTH - 1))
    with pytest.raises(ValidationError, match="deeper"):
        JSON.validate_python(nested(MAX_JSON_DEPTH))


def test_json_nested_a_hundred_thousand_levels_deep_is_refused_too() -> None:
    with pytest.raises(ValidationError, match="deeper"):
        JSON.validate_python(nested(100_000))


def test_metadata_of_exactly_64_kib_is_accepted_and_one_byte_more_is_not() -> None:
    empty = len('{"a":""}')
    METADATA.validate_python({"a": "x" * (MAX_METADATA_BYTES - empty)})
    with pytest.raises(ValidationError, match="65536"):
        METADATA.validate_python({"a": "x" * (MAX_METADATA_BYTES - empty + 1)})


def test_metadata_is_limited_in_bytes_and_not_in_characters() -> None:
    with pytest.raises(ValidationError):
        METADATA.validate_python({"a": "€" * (MAX_METADATA_BYTES // 2)})


@pytest.mark.parametrize("words", ["a\0b", "\0"])
def test_a_text_with_nul_is_refused(words: str) -> None:
    with pytest.raises(ValidationError, match="NUL"):
        TypeAdapter(Text).validate_python(words)


def test_a_text_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Text).validate_python("a\ud800")


def test_a_title_has_at_most_512_characters() -> None:
    title: TypeAdapter[str] = TypeAdapter(Title)
    assert title.validate_python("ü" * 512) == "ü" * 512
    with pytest.raises(ValidationError):
        title.validate_python("ü" * 513)


@pytest.mark.parametrize("label", ["a", "support-1.2_X", "x" * 128])
def test_a_label_has_up_to_128_plain_characters(label: str) -> None:
    assert TypeAdapter(Label).validate_python(label) == label


@pytest.mark.parametrize("label", ["", "a b", "ä", "a/b", "x" * 129, "a\n"])
def test_any_other_label_is_refused(label: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Label).validate_python(label)


@pytest.mark.parametrize(
    ("sent", "read_back"),
    [(1e16, 10**16), (1e23, 10**23), (-0.0, 0.0), (1.0, 1), (0.1, 0.1), ([1e16], [10**16]), ("1e16", "1e16")],
)
def test_json_is_the_same_after_the_database_has_changed_the_form_of_a_number(sent: Any, read_back: Any) -> None:
    assert same_json({"a": {"b": sent}}, {"a": {"b": read_back}})


@pytest.mark.parametrize(
    ("one", "other"), [(True, 1), (False, 0.0), (None, 0), ("1", 1), (2**53, 2**53 + 1), (0.1, 0.2), ([], {}), ([1], 1)]
)
def test_other_json_is_not_the_same(one: Any, other: Any) -> None:
    assert not same_json({"a": [one]}, {"a": [other]})


def test_the_order_of_fields_does_not_matter_and_that_of_items_does() -> None:
    assert same_json({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same_json([1, 2], [2, 1])
