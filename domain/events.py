"""The events of conversations, and the table of all events.

Each is stored under the name of its class.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from domain.agent import AgentDefined, AgentDeleted, ResolvedAgent
from domain.aggregates import AggregateEvent
from domain.audit import AuditRead
from domain.content import Content, Role
from domain.model_usage import Usage
from domain.tools import ToolDefinition
from domain.values import JsonObject, Label, Text, Title

MessageStatus = Literal["completed", "interrupted"]
StreamedBlock = Literal["text", "reasoning"]
OpenSetting = Literal["model", "tools"]


class ConversationEvent(AggregateEvent):
    """An event of one conversation."""

    AGGREGATE: ClassVar[str] = "conversation"


class ConversationStarted(ConversationEvent):
    """A conversation was started."""

    class_version: ClassVar[int] = 2

    owner_id: str = Field(description="The owner's id. Server, from authentication.")
    agent_id: Label | None = Field(default=None, description="The agent's label, or None. Client.")
    title: Title | None = Field(default=None, description="The title that listings show, or None. Client.")
    metadata: JsonObject = Field(default_factory=dict, description="The client's own JSON object. Client.")
    agent_number: int | None = Field(
        default=None,
        ge=1,
        description="Counts the owner's starts with an agent that limits conversations, or None. Server.",
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Set no number: before version 2 no agent limited conversations."""
        state["agent_number"] = None


class ConversationUpdated(ConversationEvent):
    """The title or the metadata was changed. The event holds the new values of both."""

    title: Title | None = Field(description="The new title, or None. Client.")
    metadata: JsonObject = Field(description="The complete new metadata. Client.")


class ConversationDeleted(ConversationEvent):
    """The owner deleted the conversation. It leaves every view and stays in the log."""


class MessageAdded(ConversationEvent):
    """A message was added."""

    class_version: ClassVar[int] = 4

    message_id: UUID = Field(description="The message. The id of an answer is fixed when its turn starts. Server.")
    turn_id: UUID | None = Field(default=None, description="The turn it belongs to, or None outside turns. Server.")
    role: Role = Field(description="system, user, assistant or tool. Client, or server for a model's answer.")
    author_id: str | None = Field(default=None, description="The actor that sent it, or None for an assistant. Server.")
    content: Content = Field(description="The blocks, in order. Client or model.")
    in_reply_to: UUID | None = Field(default=None, description="The user message it answers, or None.")
    status: MessageStatus = Field(
        default="completed", description="`completed`, or `interrupted` for the text before a failure or a cancel."
    )
    model: str | None = Field(
        default=None, description="The litellm name of the model that wrote it, or None for people. Server."
    )
    tokens: int = Field(ge=0, description="Tokens of the content as `encoding` counts them. Server.")
    encoding: str = Field(description="The encoding that `tokens` were counted with, such as o200k_base. Server.")
    usage: Usage | None = Field(default=None, description="The usage of the model call, or None without one. Model.")
    finish_reason: str | None = Field(
        default=None, description="stop, length, tool_use or content_filter, or None without one. Model."
    )
    said_at: datetime | None = Field(
        default=None, description="When it was said in the program it was imported from, UTC, or None. Client."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Leave images as they are: before version 2 their bytes were in the event."""

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Change nothing: before version 3 no tool call had extra content."""

    @staticmethod
    def upcast_v3_v4(state: dict[str, Any]) -> None:
        """Set no time: before version 4 nothing was imported."""
        state["said_at"] = None


class MessageDeleted(ConversationEvent):
    """A message was deleted. It leaves history and context and stays in the log."""

    class_version: ClassVar[int] = 2

    message_id: UUID = Field(description="The message. Client.")
    superseded: bool = Field(
        default=False, description="Whether it had been superseded, and so was no longer counted. Server."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Set `superseded`: before version 2 no message was superseded."""
        state["superseded"] = False


class MessagesSuperseded(ConversationEvent):
    """The messages from a version on were replaced and left context and history."""

    from_version: int = Field(
        ge=2, description="All messages from this version up to this event are superseded. Server."
    )
    count: int = Field(
        ge=0, description="The number of these messages, without those deleted or superseded before. Server."
    )


class TurnBegun(ConversationEvent):
    """The fields of a turn that is queued or started.

    Only the two subclasses are stored.
    """

    turn_id: UUID = Field(description="The turn. Server.")
    user_message_id: UUID = Field(description="The message to answer. Server.")
    message_id: UUID = Field(description="The id the answer will have. Server.")
    model: str = Field(description="The litellm name of the model. Client, or the server's setting.")
    max_context_tokens: int | None = Field(
        default=None, description="Token budget of the context, or None for the default. Client."
    )
    temperature: float | None = Field(
        default=None, description="Sampling temperature, or None for the model's own. Client."
    )
    max_output_tokens: int | None = Field(
        default=None, description="The most tokens of the answer, or None for no limit. Client."
    )
    metadata: JsonObject = Field(default_factory=dict, description="The client's own JSON object. Client.")
    generate: bool = Field(
        default=True, description="False if the client runs the model itself and records its stream. Client."
    )
    tools: tuple[ToolDefinition, ...] = Field(default=(), description="The tools that the model may call. Client.")


class TurnQueued(TurnBegun):
    """A turn was requested and waits, with its message, until those before it end."""

    class_version: ClassVar[int] = 3

    content: Content = Field(description="The blocks of the message to answer, in order. Client.")
    tokens: int = Field(ge=0, description="Tokens of the content as `encoding` counts them. Server.")
    encoding: str = Field(description="The encoding that `tokens` were counted with, such as o200k_base. Server.")
    from_version: int | None = Field(
        default=None,
        ge=2,
        description="The turn's start supersedes messages from this version on. None supersedes none. Client.",
    )
    ahead: bool = Field(default=False, description="Whether it starts before all turns that wait already. Client.")
    left_open: tuple[OpenSetting, ...] = Field(
        default=(), description="The settings that the request left open: model, tools, or both. Client."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Change nothing: before version 2 tool calls had no extra content."""

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Leave nothing open: before version 3 no agent had settings."""
        state["left_open"] = ()


class TurnStarted(TurnBegun):
    """A turn started. From now on the conversation is locked."""

    class_version: ClassVar[int] = 4

    user_message_version: int = Field(ge=1, description="The version of the message to answer. Server.")
    agent: ResolvedAgent | None = Field(
        default=None, description="The agent whose settings the turn uses, or None without one. Server."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Set `generate`: before version 2 the server ran every model."""
        state["generate"] = True

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Set the version of the user's message, which was the one before, and no tools."""
        state["user_message_version"] = state["originator_version"] - 1
        state["tools"] = ()

    @staticmethod
    def upcast_v3_v4(state: dict[str, Any]) -> None:
        """Set no agent: before version 4 no agent had settings."""
        state["agent"] = None


class StreamDelta(ConversationEvent):
    """Chunks of one block as a model streamed them, each of which is one frame."""

    turn_id: UUID = Field(description="The turn. Server.")
    first_seq: int = Field(ge=1, description="Frame number of the first chunk. The others follow without gaps. Server.")
    block_index: int = Field(ge=0, description="Index of the block in the turn, from 0. Server.")
    block_type: StreamedBlock = Field(description="The type of the block: text or reasoning. Model.")
    first_delta_index: int = Field(ge=0, description="Index of the first chunk in its block, from 0. Server.")
    chunks: tuple[Text, ...] = Field(
        description="The chunks, with their boundaries. Model, or client if it runs the model."
    )


class TurnSuspended(ConversationEvent):
    """The turn waits for the results of its calls. The conversation is not locked."""

    class_version: ClassVar[int] = 2

    turn_id: UUID = Field(description="The turn. Server.")
    message_id: UUID = Field(description="The message that holds the calls. Server.")
    usage: Usage | None = Field(
        default=None, description="Tokens and cost of the turn so far, or None if unknown. Model, or estimated."
    )
    time_to_first_token_ms: float | None = Field(
        default=None, description="Time from the turn's start to its first chunk, or None if none came yet. Server."
    )
    duration_ms: float = Field(description="Time that the turn has run so far, without waiting. Server.")
    results_due_at: datetime | None = Field(
        default=None, description="When the turn fails unless the results have come, UTC, or None for never. Server."
    )

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Set no time: before version 2 a turn waited for ever."""
        state["results_due_at"] = None


class TurnResumed(ConversationEvent):
    """All results arrived. The model continues, and the conversation is locked."""

    turn_id: UUID = Field(description="The turn. Server.")
    user_message_id: UUID = Field(description="The message to answer. Server.")
    message_id: UUID = Field(description="The id the next answer will have. Server.")
    model: str = Field(description="The litellm name of the model, as at the turn's start. Server.")


class TurnEnded(ConversationEvent):
    """The fields of every end of a turn. Only the three subclasses are stored."""

    turn_id: UUID = Field(description="The turn. Server.")
    time_to_first_token_ms: float | None = Field(
        default=None, description="Time from the turn's start to its first chunk, or None if none came. Server."
    )
    duration_ms: float | None = Field(
        default=None, description="Time that the turn ran, without waiting for tools, or None if unknown. Server."
    )


class TurnCompleted(TurnEnded):
    """The model finished its answer."""

    usage: Usage | None = Field(
        default=None, description="Tokens and cost, or None if unknown. Model, or estimated by the server."
    )
    finish_reason: str = Field(description="stop, length, tool_use or content_filter. Model.")


class TurnFailed(TurnEnded):
    """The turn failed. Its text so far is kept."""

    reason: str = Field(description="A stable code, such as model_timeout or interrupted (the server died). Server.")
    detail: str = Field(description="One sentence for people, without keys or prompts. Server.")


class TurnCancelled(TurnEnded):
    """The turn was cancelled. Its text so far is kept."""


EVENT_TYPES: dict[str, type[AggregateEvent]] = {
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
        AgentDefined,
        AgentDeleted,
        AuditRead,
    )
}
"""The events of all aggregates, by their stored names."""

CONVERSATION_EVENTS = frozenset(cls for cls in EVENT_TYPES.values() if issubclass(cls, ConversationEvent))
"""The events of conversations."""
