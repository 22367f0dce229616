"""Models of request bodies and queries, strict about names and types."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from api.auth.errors import InvalidOwnerError
from api.auth.identity import check_owner_id
from domain.content import Content, ContentBlock, ImageBlock, Role, TextBlock
from domain.events import EVENT_TYPES
from domain.tools import MAX_TOOLS, ToolDefinition
from domain.values import Frozen, Label, Metadata, Text, Title
from projections.models.listing_filter import ConversationStatus, ListingSort

MAX_FIRST_MESSAGES = 1000
MAX_TOOL_RESULTS = 1000

# The tags of the two forms of a message's content. They are in the paths of pydantic's errors.
CONTENT_FORMS = frozenset({"string", "blocks"})

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+ -]\d\d:[0-5]\d)", re.ASCII | re.IGNORECASE)


def _content_form(value: Any) -> str:
    return "string" if isinstance(value, str) else "blocks"


def _without_hash(block: ContentBlock) -> ContentBlock:
    if isinstance(block, ImageBlock) and block.sha256 is not None:
        message = "`sha256` is not for clients to send: a client that knows it need not own the image"
        raise PydanticCustomError("sha256", message)
    return block


_Blocks = tuple[Annotated[ContentBlock, AfterValidator(_without_hash)], ...]

MessageContent = Annotated[
    Annotated[Text, Tag("string")] | Annotated[_Blocks, Tag("blocks")], Discriminator(_content_form)
]
"""Content in a request: blocks, or a bare string for one text block."""


def content_blocks(content: str | Content) -> Content:
    """Return the content of a request as content blocks."""
    return (TextBlock(text=content),) if isinstance(content, str) else content


class FirstMessage(Frozen):
    """A message of a new conversation."""

    role: Role
    content: MessageContent


class NewConversation(Frozen):
    """Body of `POST /v1/conversations`."""

    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)
    agent_id: Label | None = None
    messages: Annotated[tuple[FirstMessage, ...], Field(max_length=MAX_FIRST_MESSAGES)] = ()


class ConversationChanges(Frozen):
    """Body of `PATCH /v1/conversations/{id}`. A field that is absent stays as it is."""

    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)


class NewMessage(Frozen):
    """Body of `POST /v1/conversations/{id}/messages`."""

    role: Role
    content: MessageContent
    in_reply_to: UUID | None = None


def _unique_names(tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
    if len({tool.name for tool in tools}) < len(tools):
        raise ValueError("must have a name each")
    return tools


ModelName = Annotated[Text, Field(min_length=1, max_length=256)]
TokenCount = Annotated[int, Field(ge=0, le=2**31 - 1)]


class NewTurn(Frozen):
    """Body of `POST /v1/conversations/{id}/turns`."""

    content: MessageContent
    model: ModelName | None = None
    stream: bool = False
    generate: bool = True
    metadata: Metadata = Field(default_factory=dict)
    max_context_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    tools: Annotated[tuple[ToolDefinition, ...], Field(max_length=MAX_TOOLS), AfterValidator(_unique_names)] = ()
    replace_from: UUID | None = None
    on_busy: Literal["reject", "queue", "interrupt"] = "reject"


class Regeneration(Frozen):
    """Body of `POST …/messages/{message_id}/regenerate`."""

    model: ModelName | None = None
    stream: bool = False


class NewToolResult(Frozen):
    """The result of one tool call."""

    tool_use_id: Text
    content: Text
    is_error: bool = False


class NewToolResults(Frozen):
    """Body of `POST …/tool_results`: the results of all open calls."""

    results: Annotated[tuple[NewToolResult, ...], Field(min_length=1, max_length=MAX_TOOL_RESULTS)]
    stream: bool = False


class TurnUsage(Frozen):
    """The tokens and the cost of a model call that the client made."""

    input_tokens: TokenCount
    output_tokens: TokenCount
    cached_input_tokens: TokenCount = 0
    reasoning_tokens: TokenCount = 0
    cost_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    estimated: bool = False


class NewDeltas(Frozen):
    """Body of `POST …/deltas`: chunks of a model that the client runs.

    Without chunks it only keeps the turn alive.
    """

    seq: Annotated[int, Field(ge=2, le=2**31 - 1)]
    chunks: Annotated[tuple[Annotated[Text, Field(min_length=1)], ...], Field(max_length=10_000)]


class TurnEnd(Frozen):
    """Body of `POST …/complete`."""

    usage: TurnUsage | None = None
    finish_reason: Literal["stop", "length", "content_filter"] = "stop"


class TurnFailure(Frozen):
    """Body of `POST …/fail`."""

    detail: Annotated[Text, Field(min_length=1, max_length=1024)]


class NewConversationTurn(NewTurn):
    """Body of `POST /v1/turns`: a turn, and the conversation that it starts."""

    title: Title | None = None
    agent_id: Label | None = None


def _event_type(name: str) -> str:
    if name not in EVENT_TYPES:
        raise PydanticCustomError("event_type", "is not a type of event")
    return name


EventType = Annotated[str, AfterValidator(_event_type)]


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoQuery(_Query):
    """The query of a route that takes none."""


class PageQuery(_Query):
    """A page of a list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: str | None = None


class MessagesQuery(PageQuery):
    """A page of messages."""

    order: Literal["asc", "desc"] = "asc"
    include: Literal["superseded"] | None = None


class LogQuery(PageQuery):
    """A page of recorded events."""

    type: EventType | None = None


class EventsQuery(_Query):
    """The filter of a feed of recorded events. None means any."""

    conversation_id: UUID | None = None
    agent_id: Label | None = None
    type: EventType | None = None


class AgentQuery(_Query):
    """Conversations of one agent, or of all."""

    agent_id: Label | None = None


class ContextQuery(_Query):
    """The part of a conversation that a model is sent."""

    max_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    model: ModelName | None = None
    last: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


def _moment(value: Any) -> datetime:
    if found := _TIME.fullmatch(str(value)):
        date, time, offset = found.groups()
        # A plus that is not escaped means a space in a query. A time has no space there.
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(f"{date}T{time}{offset.replace(' ', '+').upper()}").astimezone(UTC)
    raise PydanticCustomError("time", "must be an RFC 3339 time, as in 2026-01-31T12:00:00Z")


Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A time in RFC 3339. Digits beyond the microseconds are dropped."""


def _owner_id(value: str) -> str:
    try:
        return check_owner_id(value)
    except InvalidOwnerError as error:
        raise PydanticCustomError("owner_id", "must be 1 to 256 visible characters without a space") from error


OwnerId = Annotated[str, AfterValidator(_owner_id)]


class ListingQuery(PageQuery):
    """A page of conversations, with any number of filters `metadata.KEY=VALUE`.

    The times are exclusive, and compare with that of the last message, or of the start without messages.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    owner_id: OwnerId | None = None
    agent_id: Label | None = None
    status: ConversationStatus | None = None
    active_after: Moment | None = None
    active_before: Moment | None = None
    q: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
    sort: ListingSort = "active"
