"""What clients may send: bodies and queries, strict about names and types."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from domain.content import Content, ContentBlock, ImageBlock, Role, TextBlock
from domain.events import EVENT_TYPES
from domain.tools import MAX_TOOLS, ToolDefinition
from domain.values import Frozen, Label, Metadata, Text, Title

MAX_FIRST_MESSAGES = 1000
MAX_TOOL_RESULTS = 1000


CONTENT_FORMS = frozenset({"string", "blocks"})


def _said_as(value: Any) -> str:
    return "string" if isinstance(value, str) else "blocks"


def _sent(block: ContentBlock) -> ContentBlock:
    if isinstance(block, ImageBlock) and block.sha256 is not None:
        raise PydanticCustomError("sha256", "`sha256` is not for clients to send: who knows it need not own the image")
    return block


_Blocks = tuple[Annotated[ContentBlock, AfterValidator(_sent)], ...]

Said = Annotated[Annotated[Text, Tag("string")] | Annotated[_Blocks, Tag("blocks")], Discriminator(_said_as)]
"""Content as a client sends it: blocks, or a bare string for one text block."""


def blocks(said: str | Content) -> Content:
    """Return what a client sent as content blocks."""
    return (TextBlock(text=said),) if isinstance(said, str) else said


class FirstMessage(Frozen):
    """A message that a conversation starts with."""

    role: Role
    content: Said


class NewConversation(Frozen):
    """Body of `POST /v1/conversations`."""

    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)
    agent_id: Label | None = None
    messages: Annotated[tuple[FirstMessage, ...], Field(max_length=MAX_FIRST_MESSAGES)] = ()


class ConversationChanges(Frozen):
    """Body of `PATCH /v1/conversations/{id}`; what is not named stays as it is."""

    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)


class NewMessage(Frozen):
    """Body of `POST /v1/conversations/{id}/messages`."""

    role: Role
    content: Said
    in_reply_to: UUID | None = None


def _named_once(tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
    if len({tool.name for tool in tools}) < len(tools):
        raise ValueError("must have a name each")
    return tools


ModelName = Annotated[Text, Field(min_length=1, max_length=256)]
Tokens = Annotated[int, Field(ge=0, le=2**31 - 1)]


class NewTurn(Frozen):
    """Body of `POST /v1/conversations/{id}/turns`."""

    content: Said
    model: ModelName | None = None
    stream: bool = False
    generate: bool = True
    metadata: Metadata = Field(default_factory=dict)
    max_context_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    tools: Annotated[tuple[ToolDefinition, ...], Field(max_length=MAX_TOOLS), AfterValidator(_named_once)] = ()
    replace_from: UUID | None = None
    on_busy: Literal["reject", "queue", "interrupt"] = "reject"


class Regeneration(Frozen):
    """Body of `POST …/messages/{message_id}/regenerate`."""

    model: ModelName | None = None
    stream: bool = False


class NewToolResult(Frozen):
    """The result of one call."""

    tool_use_id: Text
    content: Text
    is_error: bool = False


class NewToolResults(Frozen):
    """Body of `POST …/tool_results`: the results of all open calls."""

    results: Annotated[tuple[NewToolResult, ...], Field(min_length=1, max_length=MAX_TOOL_RESULTS)]
    stream: bool = False


class TurnUsage(Frozen):
    """What a model call used, as the client that made it knows."""

    input_tokens: Tokens
    output_tokens: Tokens
    cached_input_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    cost_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    estimated: bool = False


class NewDeltas(Frozen):
    """Body of `POST …/deltas`: chunks of a model that the client runs; without any, a sign of life."""

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


def _known(name: str) -> str:
    if name not in EVENT_TYPES:
        raise PydanticCustomError("event_type", "is not a type of event")
    return name


EventType = Annotated[str, AfterValidator(_known)]


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
    """Which recorded events a feed brings; None means any."""

    conversation_id: UUID | None = None
    agent_id: Label | None = None
    type: EventType | None = None


class AgentQuery(_Query):
    """Conversations of one agent, or of all."""

    agent_id: Label | None = None


class ContextQuery(_Query):
    """How much of a conversation a model is to be sent."""

    max_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    model: ModelName | None = None
    last: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class ListingQuery(PageQuery):
    """A page of conversations; `metadata.KEY=VALUE` may be given as well, any number of times."""

    model_config = ConfigDict(frozen=True, extra="allow")

    agent_id: Label | None = None
    q: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
