"""Cursors: opaque tokens that say where a page of one list ended."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson

from api.http.problems import ProblemError, ProblemKind

T = TypeVar("T")

_INVALID_CURSOR = ProblemKind(400, "INVALID_CURSOR")


def encode_cursor(kind: str, *place: Any) -> str:
    """Return the cursor of a place in the list `kind`."""
    return urlsafe_b64encode(orjson.dumps([kind, *place])).decode().rstrip("=")


def decode_version(kind: str, cursor: str | None) -> int | None:
    """Return the version in a cursor of the list `kind`, None without a cursor.

    Raises:
        ProblemError: the cursor is malformed, or of another list.
    """

    def version(place: Any) -> int:
        (number,) = place
        if type(number) is not int or not 0 <= number < 2**31:
            raise ValueError
        return number

    return None if cursor is None else _decode(kind, cursor, version)


def decode_activity(kind: str, cursor: str | None) -> tuple[datetime, UUID] | None:
    """Return the time and the id in a cursor of the list `kind`, None without one.

    Raises:
        ProblemError: the cursor is malformed, or of another list.
    """

    def activity(place: Any) -> tuple[datetime, UUID]:
        at, id_ = place
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError
        return moment, UUID(id_)

    return None if cursor is None else _decode(kind, cursor, activity)


def _decode(kind: str, cursor: str, read: Callable[[Any], T]) -> T:
    try:
        found, *place = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if found != kind:
            raise ValueError
        return read(place)
    except (ValueError, TypeError, AttributeError):
        raise ProblemError(_INVALID_CURSOR, "The cursor is not one of this list.") from None


def page(rows: list[Any], limit: int, resource: Callable[[Any], Any], cursor: Callable[[Any], str]) -> dict[str, Any]:
    """Return a page of at most `limit` resources.

    `rows` holds one more row than `limit` if there is a next page.
    """
    more = len(rows) > limit
    shown = rows[:limit]
    return {"data": [resource(row) for row in shown], "next_cursor": cursor(shown[-1]) if more else None}
