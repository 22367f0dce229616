"""Fields of an export have the types that they should have, and times are times."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.fields import (
    as_list,
    as_object,
    moment,
    optional_id,
    optional_list,
    optional_object,
    optional_text,
    role_of,
)

SPRING = datetime(2025, 3, 1, 10, 0, 0, tzinfo=UTC)
FIELDS: list[Any] = [optional_object, optional_list, optional_text]


@pytest.mark.parametrize("given", [{}, {"a": None}])
def test_a_field_that_is_missing_or_null_is_empty(given: dict[str, Any]) -> None:
    assert [read(given, "a") for read in FIELDS] == [{}, [], None]
    assert (optional_id(given, "a"), moment(given, "a")) == (None, None)


@pytest.mark.parametrize(
    ("read", "value", "fault"),
    [
        (optional_object, [], "a is not an object"),
        (optional_list, {}, "a is not an array"),
        (optional_text, 1, "a is not a text"),
        (optional_id, 1.5, "a is not a text"),
        (optional_id, True, "a is not a text"),
        (role_of, None, "a is missing"),
        (role_of, "critic", "the a 'critic' is unknown"),
    ],
)
def test_a_field_of_another_type_is_refused(read: Any, value: Any, fault: str) -> None:
    with pytest.raises(ImportFormatError, match=f"^{fault}$"):
        read({"a": value}, "a")


def test_the_first_field_that_is_there_is_taken() -> None:
    given = {"a": None, "b": "", "c": "text", "d": 7}
    assert optional_text(given, "a", "b", "c", "d") == "text"
    assert optional_id(given, "a", "d") == "7"
    assert optional_id({"a": 0}, "a") == "0"


def test_values_that_must_be_there_are_named() -> None:
    assert (as_object({"a": 1}, "it"), as_list([1], "it")) == ({"a": 1}, [1])
    with pytest.raises(ImportFormatError, match=r"^mapping is not an object$"):
        as_object(None, "mapping")
    with pytest.raises(ImportFormatError, match=r"^messages is not an array$"):
        as_list("text", "messages")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1740823200, SPRING),
        (1740823200.5, SPRING.replace(microsecond=500_000)),
        (1740823200000, SPRING),
        (1740823200000.0, SPRING),
        (1740823200000000, SPRING),
        (1740823200000000000, SPRING),
        ("2025-03-01T10:00:00Z", SPRING),
        ("2025-03-01T10:00:00.000000+00:00", SPRING),
        ("2025-03-01T12:00:00+02:00", SPRING),
        ("2025-03-01T10:00:00", SPRING),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_seconds_or_smaller_units_or_a_text(value: Any, expected: datetime) -> None:
    found = moment({"a": None, "b": value}, "a", "b")
    assert found == expected
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (-1, "a is no time"),
        (1e30, "a is no time"),
        (10**400, "a is no time"),
        (float("nan"), "a is no time"),
        (True, "a is no time"),
        ([], "a is no time"),
        ("", "a is no time: ''"),
        ("yesterday", "a is no time: 'yesterday'"),
        ("0001-01-01T00:00:00+14:00", "a is no time: '0001-01-01T00:00:00[+]14:00'"),
    ],
)
def test_a_value_that_is_no_time_is_refused(value: Any, fault: str) -> None:
    with pytest.raises(ImportFormatError, match=f"^{fault}$"):
        moment({"a": value}, "a")
