"""Fields of an export, read with checks of their types."""

from datetime import UTC, datetime
from typing import Any, cast

from audit.imports.errors import ImportFormatError, shown
from domain.content import Role

JsonMap = dict[str, Any]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""The roles of other programs, and ours."""

_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Times from the first number on are counted in nanoseconds, microseconds and milliseconds, and below in seconds."""
_END_OF_TIME = 1e20


def as_object(value: object, name: str) -> JsonMap:
    """Return `value`, which must be a JSON object."""
    if not isinstance(value, dict):
        raise ImportFormatError(f"{name} is not an object")
    return cast(JsonMap, value)


def as_list(value: object, name: str) -> list[Any]:
    """Return `value`, which must be a JSON array."""
    if not isinstance(value, list):
        raise ImportFormatError(f"{name} is not an array")
    return cast(list[Any], value)


def optional_object(given: JsonMap, key: str) -> JsonMap:
    """Return an object, empty if it is missing or null."""
    value = given.get(key)
    return {} if value is None else as_object(value, key)


def optional_list(given: JsonMap, key: str) -> list[Any]:
    """Return an array, empty if it is missing or null."""
    value = given.get(key)
    return [] if value is None else as_list(value, key)


def optional_text(given: JsonMap, *keys: str) -> str | None:
    """Return the first of these texts that is there and not empty, else None."""
    for key in keys:
        value = given.get(key)
        if value is not None and not isinstance(value, str):
            raise ImportFormatError(f"{key} is not a text")
        if value:
            return value
    return None


def optional_id(given: JsonMap, *keys: str) -> str | None:
    """Return the first of these ids that is there, else None.

    An id may be a whole number.
    """
    for key in keys:
        value = given.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if found := optional_text(given, key):
            return found
    return None


def role_of(given: JsonMap, key: str) -> Role:
    """Return our role for that of a message."""
    name = optional_text(given, key)
    if name is None:
        raise ImportFormatError(f"{key} is missing")
    if name not in ROLES:
        raise ImportFormatError(f"the {key} {shown(name)} is unknown")
    return ROLES[name]


def moment(given: JsonMap, *keys: str) -> datetime | None:
    """Return the first of these times that is there, in UTC, else None.

    A time is a number since 1970, or a text in ISO 8601.
    """
    for key in keys:
        value = given.get(key)
        if value is not None:
            return _moment(value, key)
    return None


def _moment(value: object, key: str) -> datetime:
    if isinstance(value, str):
        return _from_text(value, key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _END_OF_TIME:
        raise ImportFormatError(f"{key} is no time")
    unit = next((unit for least, unit in _UNITS if value >= least), 1)
    return datetime.fromtimestamp(value / unit, UTC)


def _from_text(text: str, key: str) -> datetime:
    try:
        given = datetime.fromisoformat(text)
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ImportFormatError(f"{key} is no time: {shown(text)}") from error
