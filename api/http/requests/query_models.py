"""Models of queries."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from api.auth.errors import InvalidOwnerError
from api.auth.identity import MAX_OWNER_CHARS, check_owner_id
from api.http.request import MAX_DIGITS
from api.http.requests.body_models import MODEL, ModelName
from domain.events import EVENT_TYPES
from domain.values import Label, Text
from projections.models.listing_filter import ConversationStatus, ListingSort

_POSITION = re.compile(rf"\d{{1,{MAX_DIGITS}}}", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+ -]\d\d:[0-5]\d)", re.ASCII | re.IGNORECASE)
_OF_AGENT = "Only what belongs to conversations with this agent."
_TYPE = "Only events of this type."


def _event_type(name: str) -> str:
    if name not in EVENT_TYPES:
        raise PydanticCustomError("event_type", "is not a type of event")
    return name


EventType = Annotated[str, AfterValidator(_event_type), WithJsonSchema({"type": "string", "enum": sorted(EVENT_TYPES)})]


def _time(value: Any) -> datetime | None:
    """Return the time that a text names, None if it names none."""
    if found := _TIME.fullmatch(str(value)):
        date, time, offset = found.groups()
        # A plus that is not escaped means a space in a query. A time has no space there.
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(f"{date}T{time}{offset.replace(' ', '+').upper()}").astimezone(UTC)
    return None


def _moment(value: Any) -> datetime:
    if (at := _time(value)) is None:
        raise PydanticCustomError("time", "must be an RFC 3339 time, as in 2026-01-31T12:00:00Z")
    return at


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A time in RFC 3339. Digits beyond the microseconds are dropped."""


def _as_of(value: Any) -> int | datetime:
    if _POSITION.fullmatch(str(value)):
        return int(value)
    if (at := _time(value)) is None:
        text = "must be a position of the log, as in 4711, or an RFC 3339 time, as in 2026-01-31T12:00:00Z"
        raise PydanticCustomError("as_of", text)
    return at


_POSITION_SCHEMA = {"type": "integer", "minimum": 0, "maximum": 10**MAX_DIGITS - 1}
AsOf = Annotated[
    int | datetime,
    BeforeValidator(_as_of),
    WithJsonSchema({"anyOf": [_POSITION_SCHEMA, {"type": "string", "format": "date-time"}]}),
]
"""A position of the log, or a time in RFC 3339."""


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoQuery(_Query):
    """The query of a route that takes none."""


class AsOfQuery(_Query):
    """A moment to read, by default now."""

    as_of: AsOf | None = Field(
        default=None,
        description="A moment of the past: a position of the log, or a time. The answer is what the request gave then.",
    )


class PageQuery(_Query):
    """A page of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = Field(default=20, description="The most items of the page.")
    cursor: str | None = Field(
        default=None, description="`next_cursor` of the page before. It is valid for the same list only."
    )


class MessagesQuery(PageQuery, AsOfQuery):
    """A page of messages."""

    order: Literal["asc", "desc"] = Field(default="asc", description="`asc` lists the oldest message first.")
    include: Literal["superseded"] | None = Field(
        default=None, description="`superseded` also lists the messages that were replaced."
    )


class EventsQuery(_Query):
    """The filter of a feed of recorded events. None means any."""

    conversation_id: UUID | None = Field(default=None, description="Only events of this conversation.")
    agent_id: Label | None = Field(default=None, description=_OF_AGENT)
    type: EventType | None = Field(default=None, description=_TYPE)


class AgentQuery(_Query):
    """Conversations of one agent, or of all."""

    agent_id: Label | None = Field(default=None, description=_OF_AGENT)


class ContextQuery(AsOfQuery):
    """The part of a conversation that a model is sent."""

    max_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="Token budget. By default that of the agent, the server or the model."
    )
    model: ModelName | None = Field(default=None, description=MODEL)
    last: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="The most messages, counted from the newest."
    )


class SharedQuery(_Query):
    """An agent of the owner, or with `shared` the one that every owner may use."""

    shared: bool = Field(default=False, description="True for the agent that every owner may use.")


class AgentMomentQuery(SharedQuery, AsOfQuery):
    """An agent, now or as of a moment."""


class AgentListQuery(PageQuery, AsOfQuery):
    """A page of agents, now or as of a moment."""


def _owner_id(value: str) -> str:
    try:
        return check_owner_id(value)
    except InvalidOwnerError as error:
        raise PydanticCustomError("owner_id", "must be 1 to 256 visible characters without a space") from error


OwnerId = Annotated[
    str,
    AfterValidator(_owner_id),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_OWNER_CHARS}),
]


class LogQuery(PageQuery):
    """A page of recorded events that match all filters. The times are exclusive."""

    type: EventType | None = Field(default=None, description=_TYPE)
    actor: Annotated[Text, Field(min_length=1, max_length=512)] | None = Field(
        default=None, description="Only events that this actor caused, such as user:alice."
    )
    owner_id: OwnerId | None = Field(
        default=None, description="Only events of this owner's conversations and agents. For auditors and admins."
    )
    after: Moment | None = Field(default=None, description="Only events recorded after this time.")
    before: Moment | None = Field(default=None, description="Only events recorded before this time.")
    order: Literal["asc", "desc"] = Field(default="asc", description="`asc` lists the oldest event first.")


class ListingQuery(PageQuery, AsOfQuery):
    """A page of conversations, with any number of filters `metadata.KEY=VALUE`.

    The times are exclusive, and compare with that of the last message, or of the start without messages.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    owner_id: OwnerId | None = Field(
        default=None, description="Only conversations of this owner. For auditors and admins."
    )
    agent_id: Label | None = Field(default=None, description=_OF_AGENT)
    status: ConversationStatus | None = Field(default=None, description="Only conversations in this state.")
    active_after: Moment | None = Field(default=None, description="Only those last active after this time.")
    active_before: Moment | None = Field(default=None, description="Only those last active before this time.")
    q: Annotated[Text, Field(min_length=1, max_length=512)] | None = Field(
        default=None, description="Only those whose title contains this, ignoring case."
    )
    sort: ListingSort = Field(
        default="active",
        description="`active` lists the last active first, `created` the newest, and `title` from A to Z.",
    )
