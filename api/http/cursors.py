"""Cursors: opaque tokens that say where a page of one list ended."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from api.http.problems import INVALID_CURSOR, ProblemError
from domain.values import Label
from eventlog.log_search import EventFilter
from projections.models.agent_listing import AgentPlace
from projections.models.listing_filter import ListingFilter, ListingPlace, ListingSort
from projections.models.title_order import MAX_KEY_CHARACTERS

T = TypeVar("T")

_LABEL: TypeAdapter[str] = TypeAdapter(Label)
_POSITION = re.compile(r"\d{1,18}", re.ASCII)
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError)
"""The errors of reading a cursor that is none."""


def encode_cursor(kind: str, *place: Any) -> str:
    """Return the cursor of a place in the list `kind`."""
    return urlsafe_b64encode(orjson.dumps([kind, *place])).decode().rstrip("=")


def kind_at(kind: str, as_of: str, position: int) -> str:
    """Return the kind of a cursor of a list as of a moment, at a position."""
    return f"{position} {as_of} {kind}"


def cursor_position(cursor: str | None, as_of: str) -> int | None:
    """Return the position in a cursor of a list as of a moment, None without one."""
    if cursor is None:
        return None
    with suppress(*_MALFORMED):
        position, moment, _ = _content(cursor)[0].split(" ", 2)
        if moment == as_of and _POSITION.fullmatch(position):
            return int(position)
    return None


def decode_version(kind: str, cursor: str | None, below: int = 2**31) -> int | None:
    """Return the version in a cursor of the list `kind`, None without a cursor.

    In cursors of the whole log a position takes its place, which may be larger.

    Raises:
        ProblemError: the cursor is malformed, or of another list.
    """

    def version(place: Any) -> int:
        (number,) = place
        if type(number) is not int or not 0 <= number < below:
            raise ValueError
        return number

    return None if cursor is None else _decode(kind, cursor, version)


def log_kind(conversation_id: UUID | None, wanted: EventFilter, order: str) -> str:
    """Return the kind of a cursor for one filter and order of a log.

    That is the log of a conversation, or with None the whole log.
    """
    text = orjson.dumps([conversation_id, *wanted])
    return f"log.{order}.{sha256(text).hexdigest()[:16]}"


def listing_kind(owner_id: str | None, filter_: ListingFilter, sort: ListingSort) -> str:
    """Return the kind of a cursor for one owner, filter and order of the listing."""
    wanted = [owner_id, filter_.agent_id, filter_.title_contains, sorted(filter_.metadata.items()), filter_.status]
    text = orjson.dumps([*wanted, filter_.active_after, filter_.active_before])
    return f"conversations.{sort}.{sha256(text).hexdigest()[:16]}"


def decode_place(kind: str, sort: ListingSort, cursor: str | None) -> ListingPlace | None:
    """Return the place in a cursor of the list `kind`, None without one.

    Raises:
        ProblemError: the cursor is malformed, or of another list.
    """

    def place(found: Any) -> ListingPlace:
        value, id_ = found
        return ListingPlace(_title_key(value) if sort == "title" else _moment(value), UUID(id_))

    return None if cursor is None else _decode(kind, cursor, place)


def decode_agent_place(kind: str, cursor: str | None) -> AgentPlace | None:
    """Return the place in a cursor of a list of agents, None without one.

    Raises:
        ProblemError: the cursor is malformed, or of another list.
    """

    def place(found: Any) -> AgentPlace:
        label, id_ = found
        return AgentPlace(_LABEL.validate_python(label), UUID(id_))

    return None if cursor is None else _decode(kind, cursor, place)


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _title_key(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_KEY_CHARACTERS or "\0" in value:
        raise ValueError
    return value


def _content(cursor: str) -> Any:
    return orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def _decode(kind: str, cursor: str, read: Callable[[Any], T]) -> T:
    try:
        found, *place = _content(cursor)
        if found != kind:
            raise ValueError
        return read(place)
    except _MALFORMED:
        detail = "The cursor is not one of this list, in this order and with these filters."
        raise ProblemError(INVALID_CURSOR, detail) from None


def page(rows: list[Any], limit: int, resource: Callable[[Any], Any], cursor: Callable[[Any], str]) -> dict[str, Any]:
    """Return a page of at most `limit` resources.

    `rows` holds one more row than `limit` if there is a next page.
    """
    more = len(rows) > limit
    shown = rows[:limit]
    return {"data": [resource(row) for row in shown], "next_cursor": cursor(shown[-1]) if more else None}
