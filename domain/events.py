"""The facts a conversation is made of; each is stored under its class's short name."""

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from domain.content import Content, Role
from domain.tools import ToolDefinition
from domain.usage import Usage
from domain.values import Frozen, JsonObject, Label, Text, Title

MessageStatus = Literal["completed", "interrupted"]
StreamedBlock = Literal["text", "reasoning"]

ENVELOPE_FIELDS = frozenset({"originator_id", "originator_version", "timestamp", "actor", "request_id"})


class ConversationEvent(Frozen):
    """A fact of one conversation. `TOPIC` is its stored name and `class_version` the shape it is stored in."""

    TOPIC: ClassVar[str]
    class_version: ClassVar[int] = 1

    originator_id: UUID = Field(description="The conversation. Server.")
    originator_version: int = Field(ge=1, description="Place in the conversation, from 1 without gaps. Server.")
    timestamp: datetime = Field(description="When it was decided, UTC, microseconds. Server.")
    actor: str = Field(description="Who asked for it: the authenticated owner's id. Server.")
    request_id: str | None = Field(
        default=None, description="The HTTP request that caused it; None outside HTTP. Server."
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TOPIC = cls.__name__


class ConversationStarted(ConversationEvent):
    """A conversation came into being."""

    owner_id: str = Field(description="Whose it is. Server, from authentication.")
    agent_id: Label | None = Field(default=None, description="The agent's label; None without one. Client.")
    title: Title | None = Field(default=None, description="What listings show; None without one. Client.")
    metadata: JsonObject = Field(default_factory=dict, description="The client's own JSON object. Client.")


class ConversationUpdated(ConversationEvent):
    """Title or metadata were set; the event holds both as they are from now on."""

    title: Title | None = Field(description="The title from now on; None without one. Client.")
    metadata: JsonObject = Field(description="The whole metadata from now on. Client.")


class ConversationDeleted(ConversationEvent):
    """The owner deleted the conversation: it leaves every view and stays in the log."""


class MessageAdded(ConversationEvent):
    """Something was said."""

    class_version: ClassVar[int] = 3

    message_id: UUID = Field(description="The message. Server; an assistant's is fixed when its turn starts.")
    turn_id: UUID | None = Field(default=None, description="The turn it belongs to; None outside turns. Server.")
    role: Role = Field(description="Who speaks: system, user, assistant or tool. Client; server for a model's answer.")
    author_id: str | None = Field(default=None, description="The person who said it; None for a model. Server.")
    content: Content = Field(description="The blocks, in order. Client or model.")
    in_reply_to: UUID | None = Field(default=None, description="The user message it answers; None if it answers none.")
    status: MessageStatus = Field(
        default="completed", description="`interrupted`: what was said before a failure or cancel."
    )
    model: str | None = Field(
        default=None, description="The model that said it, a litellm name; None for people. Server."
    )
    tokens: int = Field(ge=0, description="Tokens of the content as `encoding` counts them. Server.")
    encoding: str = Field(description="The tokenizer behind `tokens`, such as o200k_base. Server.")
    usage: Usage | None = Field(default=None, description="What the model call used; None without one. Model.")
    finish_reason: str | None = Field(
        default=None, description="stop, length, tool_use, content_filter; None without. Model."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Until version 2 every picture's bytes were in the event; there they stay."""

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Until version 3 no tool call had extra content."""


class MessageDeleted(ConversationEvent):
    """A message was deleted: it leaves history and context and stays in the log."""

    class_version: ClassVar[int] = 2

    message_id: UUID = Field(description="The message. Client.")
    superseded: bool = Field(
        default=False, description="Whether it was superseded before, and no longer counted. Server."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Until version 2 nothing was ever superseded."""
        state["superseded"] = False


class MessagesSuperseded(ConversationEvent):
    """The messages from a place on were replaced: they leave context and history, and stay where they are asked for."""

    from_version: int = Field(ge=2, description="All messages from this version up to this event's. Server.")
    count: int = Field(ge=0, description="How many they are, without those deleted or superseded before. Server.")


class TurnBegun(ConversationEvent):
    """What both ways in which a turn begins tell; only its two kinds are stored."""

    turn_id: UUID = Field(description="The turn. Server.")
    user_message_id: UUID = Field(description="The message to answer. Server.")
    message_id: UUID = Field(description="The id the answer will have. Server.")
    model: str = Field(description="The litellm name of the model. Client, or the server's setting.")
    max_context_tokens: int | None = Field(
        default=None, description="Token budget of the context; None: the model's own. Client."
    )
    temperature: float | None = Field(default=None, description="Sampling temperature; None: the model's own. Client.")
    max_output_tokens: int | None = Field(
        default=None, description="Bound of the answer in tokens; None: none. Client."
    )
    metadata: JsonObject = Field(default_factory=dict, description="The client's own JSON object. Client.")
    generate: bool = Field(
        default=True, description="False: the client runs the model itself and records its stream. Client."
    )
    tools: tuple[ToolDefinition, ...] = Field(default=(), description="What the model may call. Client.")


class TurnQueued(TurnBegun):
    """Someone asked while another turn was active; the message is said and the turn starts when those before it end."""

    class_version: ClassVar[int] = 2

    content: Content = Field(description="The blocks of the message to answer, in order. Client.")
    tokens: int = Field(ge=0, description="Tokens of the content as `encoding` counts them. Server.")
    encoding: str = Field(description="The tokenizer behind `tokens`, such as o200k_base. Server.")
    from_version: int | None = Field(
        default=None, ge=2, description="The messages from this version on are to be superseded; None: none. Client."
    )
    ahead: bool = Field(default=False, description="Whether it goes before all that wait already. Client.")

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Until version 2 the shape of a tool call, which no user's message holds, had no extra content."""


class TurnStarted(TurnBegun):
    """A model was asked to answer; from now on the conversation is locked."""

    class_version: ClassVar[int] = 3

    user_message_version: int = Field(ge=1, description="Place of the message to answer in the conversation. Server.")

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Until version 2 the server ran every model."""
        state["generate"] = True

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Until version 3 a turn began with its user's message, and no model was given tools."""
        state["user_message_version"] = state["originator_version"] - 1
        state["tools"] = ()


class StreamDelta(ConversationEvent):
    """Chunks of one block as a model streamed them, boundaries kept; each chunk is one frame of the turn."""

    turn_id: UUID = Field(description="The turn. Server.")
    first_seq: int = Field(ge=1, description="Frame number of the first chunk; the others follow without gap. Server.")
    block_index: int = Field(ge=0, description="Which block of the answer, from 0. Server.")
    block_type: StreamedBlock = Field(description="What the block is: text or reasoning. Model.")
    first_delta_index: int = Field(ge=0, description="Place of the first chunk in its block, from 0. Server.")
    chunks: tuple[Text, ...] = Field(description="The chunks, exactly as they came. Model.")


class TurnSuspended(ConversationEvent):
    """The model called tools: the turn waits for the client's results, and the conversation is not locked."""

    turn_id: UUID = Field(description="The turn. Server.")
    message_id: UUID = Field(description="The message that holds the calls. Server.")
    usage: Usage | None = Field(
        default=None, description="Tokens and cost of the turn so far; None if unknown. Model, or estimated."
    )
    time_to_first_token_ms: float | None = Field(
        default=None, description="Start of the turn to its first chunk, ms; None if none came yet. Server."
    )
    duration_ms: float = Field(description="How long the turn has run so far, ms, without waiting. Server.")


class TurnResumed(ConversationEvent):
    """The client gave the results of all calls: the model goes on, and the conversation is locked again."""

    turn_id: UUID = Field(description="The turn. Server.")
    user_message_id: UUID = Field(description="The message to answer. Server.")
    message_id: UUID = Field(description="The id the next answer will have. Server.")
    model: str = Field(description="The litellm name of the model, as at the turn's start. Server.")


class TurnEnded(ConversationEvent):
    """What every end of a turn tells; only its three kinds are stored."""

    turn_id: UUID = Field(description="The turn. Server.")
    time_to_first_token_ms: float | None = Field(
        default=None, description="Start to first chunk, ms; None if none came. Server."
    )
    duration_ms: float | None = Field(
        default=None, description="How long it ran, ms, without waiting for tools; None if unknown. Server."
    )


class TurnCompleted(TurnEnded):
    """The model finished its answer."""

    usage: Usage | None = Field(
        default=None, description="Tokens and cost; None if unknown. Model, or estimated by the server."
    )
    finish_reason: str = Field(description="stop, length, tool_use or content_filter. Model.")


class TurnFailed(TurnEnded):
    """The turn broke; what was said before is kept."""

    reason: str = Field(description="Stable code, such as model_timeout or interrupted (the server died). Server.")
    detail: str = Field(description="One sentence for people; no keys, no prompts. Server.")


class TurnCancelled(TurnEnded):
    """Someone stopped the turn; what was said before is kept."""


EVENT_TYPES: dict[str, type[ConversationEvent]] = {
    cls.TOPIC: cls
    for cls in (
        ConversationStarted,
        ConversationUpdated,
        ConversationDeleted,
        MessageAdded,
        MessageDeleted,
        MessagesSuperseded,
        TurnQueued,
        TurnStarted,
        StreamDelta,
        TurnSuspended,
        TurnResumed,
        TurnCompleted,
        TurnFailed,
        TurnCancelled,
    )
}
