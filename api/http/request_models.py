"""Models of request bodies and queries, strict about names and types."""

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
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from api.auth.errors import InvalidOwnerError
from api.auth.identity import MAX_OWNER_CHARS, check_owner_id
from api.http.request import MAX_DIGITS
from domain.agent import AgentSettings
from domain.content import MAX_TEXT_BYTES, Content, ContentBlock, ImageBlock, Role, TextBlock
from domain.events import EVENT_TYPES
from domain.tools import MAX_TOOLS, ToolDefinition
from domain.values import Frozen, Label, Metadata, Text, Title
from projections.models.listing_filter import ConversationStatus, ListingSort

MAX_FIRST_MESSAGES = 1000
MAX_TOOL_RESULTS = 1000

# The tags of the two forms of a message's content. They are in the paths of pydantic's errors.
CONTENT_FORMS = frozenset({"string", "blocks"})

_POSITION = re.compile(rf"\d{{1,{MAX_DIGITS}}}", re.ASCII)
# Descriptions that several fields share.
_AGENT_ID = "A label: the agent that the conversation belongs to."
_METADATA = "The client's own JSON object, at most 64 KiB and 64 levels deep."
_STREAM = "True for an answer as server-sent events."
_MODEL = "The litellm name of the model. By default that of the agent or of the server."
_OF_AGENT = "Only what belongs to conversations with this agent."
_TYPE = "Only events of this type."

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

    title: Title | None = Field(default=None, description="The title that listings show.")
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)
    agent_id: Label | None = Field(default=None, description=_AGENT_ID)
    messages: Annotated[tuple[FirstMessage, ...], Field(max_length=MAX_FIRST_MESSAGES)] = Field(
        default=(), description="The first messages, recorded with the conversation. No model is called."
    )


class ConversationChanges(Frozen):
    """Body of `PATCH /v1/conversations/{id}`. A field that is absent stays as it is."""

    title: Title | None = Field(default=None, description="The new title, or null for none.")
    metadata: Metadata = Field(default_factory=dict, description="The new metadata, which replaces the old one.")


class NewMessage(Frozen):
    """Body of `POST /v1/conversations/{id}/messages`."""

    role: Role
    content: MessageContent
    in_reply_to: UUID | None = Field(
        default=None, description="The message that an assistant's message answers. By default the last user message."
    )


def _unique_names(tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
    if len({tool.name for tool in tools}) < len(tools):
        raise ValueError("must have a name each")
    return tools


def _at_most_1_mib(text: str) -> str:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"must be at most {MAX_TEXT_BYTES} bytes of UTF-8")
    return text


Tools = Annotated[tuple[ToolDefinition, ...], Field(max_length=MAX_TOOLS), AfterValidator(_unique_names)]
ContextTokens = Annotated[int, Field(ge=1, le=100_000_000)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
ModelName = Annotated[Text, Field(min_length=1, max_length=256)]
TokenCount = Annotated[int, Field(ge=0, le=2**31 - 1)]


class NewTurn(Frozen):
    """Body of `POST /v1/conversations/{id}/turns`."""

    content: MessageContent
    model: ModelName | None = Field(default=None, description=_MODEL)
    stream: bool = Field(default=False, description=_STREAM)
    generate: bool = Field(default=True, description="False if the client runs the model and records its stream.")
    metadata: Metadata = Field(default_factory=dict, description=_METADATA)
    max_context_tokens: ContextTokens | None = Field(
        default=None, description="Token budget of the context. By default that of the agent, the server or the model."
    )
    temperature: Temperature | None = Field(
        default=None, description="Sampling temperature. By default that of the agent or of the model."
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="The most tokens of the answer."
    )
    tools: Tools = Field(
        default=(),
        description="The tools that the model may call, by default those of the agent. Each has a name of its own.",
    )
    replace_from: UUID | None = Field(
        default=None, description="The message to edit. The message and all after it become superseded."
    )
    on_busy: Literal["reject", "queue", "interrupt"] = Field(
        default="reject", description="The choice while another turn runs: refuse, wait for its end, or cancel it."
    )


class Regeneration(Frozen):
    """Body of `POST …/messages/{message_id}/regenerate`."""

    model: ModelName | None = Field(
        default=None, description="The litellm name of the model. By default that of the turn that answered before."
    )
    stream: bool = Field(default=False, description=_STREAM)


class NewToolResult(Frozen):
    """The result of one tool call."""

    tool_use_id: Text = Field(description="The id of the call.")
    content: Text = Field(description="The result as text, often JSON.")
    is_error: bool = Field(default=False, description="Whether the tool failed.")


class NewToolResults(Frozen):
    """Body of `POST …/tool_results`: the results of all open calls."""

    results: Annotated[tuple[NewToolResult, ...], Field(min_length=1, max_length=MAX_TOOL_RESULTS)] = Field(
        description="One result for each open call."
    )
    stream: bool = Field(default=False, description=_STREAM)


class TurnUsage(Frozen):
    """The tokens and the cost of a model call that the client made."""

    input_tokens: TokenCount
    output_tokens: TokenCount
    cached_input_tokens: TokenCount = 0
    reasoning_tokens: TokenCount = 0
    cost_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    estimated: bool = Field(default=False, description="Whether the client counted the tokens itself.")


class NewDeltas(Frozen):
    """Body of `POST …/deltas`: chunks of a model that the client runs.

    Without chunks it only keeps the turn alive.
    """

    seq: Annotated[int, Field(ge=2, le=2**31 - 1)] = Field(
        description="The frame number of the first chunk. The first chunk of a turn is frame 2."
    )
    chunks: Annotated[tuple[Annotated[Text, Field(min_length=1)], ...], Field(max_length=10_000)] = Field(
        description="The chunks of text, in order."
    )


class TurnEnd(Frozen):
    """Body of `POST …/complete`."""

    usage: TurnUsage | None = None
    finish_reason: Literal["stop", "length", "content_filter"] = "stop"


class TurnFailure(Frozen):
    """Body of `POST …/fail`."""

    detail: Annotated[Text, Field(min_length=1, max_length=1024)] = Field(
        description="One sentence for people, which says why the turn failed."
    )


class NewConversationTurn(NewTurn):
    """Body of `POST /v1/turns`: a turn, and the conversation that it starts."""

    title: Title | None = Field(default=None, description="The title of the conversation.")
    agent_id: Label | None = Field(default=None, description=_AGENT_ID)


class NewAgent(Frozen):
    """Body of `PUT /v1/agents/{agent_id}`.

    A setting that is absent or null is left open. Without `tools` there are none.
    """

    system_prompt: Annotated[Text, Field(min_length=1), AfterValidator(_at_most_1_mib)] | None = Field(
        default=None, description="A text for the model before the messages, at most 1 MiB."
    )
    model: ModelName | None = Field(default=None, description="The litellm name of the model.")
    max_context_tokens: ContextTokens | None = Field(default=None, description="Token budget of the context.")
    temperature: Temperature | None = Field(default=None, description="Sampling temperature.")
    tools: Tools = Field(default=(), description="The tools that the model may call. Each has a name of its own.")
    max_conversations: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        default=None, description="The most live conversations of an owner with the agent."
    )
    retain_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None, description="Days for which conversations are to be kept. Stored without effect so far."
    )
    tool_results_timeout_s: Annotated[float, Field(gt=0, le=100_000_000, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds that a turn is to wait for tool results. Stored without effect so far."
    )

    def settings(self) -> AgentSettings:
        """Return the settings of the agent."""
        return AgentSettings(**{name: getattr(self, name) for name in AgentSettings._fields})


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
    model: ModelName | None = Field(default=None, description=_MODEL)
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
