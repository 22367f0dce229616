"""The state of a conversation that decisions need, and how events change it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import TypeAdapter

from domain.aggregates import SYSTEM, AggregateEvent
from domain.content import ToolResultBlock
from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.model_usage import Usage
from domain.tools import tool_uses
from domain.values import JsonObject


@dataclass(frozen=True, slots=True)
class QueuedTurn:
    """A turn that waits for the turns before it.

    `version` is the version of its TurnQueued.
    """

    id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class ActiveTurn:
    """The turn that has started and not ended.

    It locks the conversation unless it is `waiting` for tool results.

    `first_version` is the version of its start. Usage and times are totals up to its last wait. A wait ends at
    `results_due_at` with the failure of the turn, None for never.
    """

    id: UUID
    user_message_id: UUID
    message_id: UUID
    model: str
    first_version: int
    generate: bool = True
    waiting: bool = False
    usage: Usage | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float = 0.0
    results_due_at: datetime | None = None


@dataclass(frozen=True)
class Conversation:
    """The state of a conversation after its events.

    `version` counts all events. `visible_version` is the version of the last event that is not a StreamDelta.
    `open_calls` are the ids of the tool calls without a result.
    """

    # The state stays small however many messages there are: it is loaded for every command.

    id: UUID
    version: int
    visible_version: int
    owner_id: str
    agent_id: str | None
    title: str | None
    metadata: JsonObject
    created_at: datetime
    updated_at: datetime
    message_count: int = 0
    last_message_at: datetime | None = None
    last_user_message_id: UUID | None = None
    turn: ActiveTurn | None = None
    queue: tuple[QueuedTurn, ...] = ()
    open_calls: tuple[str, ...] = ()
    deleted: bool = False

    @property
    def locked_by(self) -> UUID | None:
        """The id of the running turn, else of the first queued one, else None."""
        if self.turn is not None and not self.turn.waiting:
            return self.turn.id
        return self.queue[0].id if self.queue else None

    def at_version(self, version: int) -> "Conversation":
        """Return this state at a later version, after stream deltas only."""
        return self.with_changes(version=version)

    def with_changes(self, **changes: Any) -> "Conversation":
        """Return this state with some fields changed."""
        # This takes a fifth of the time of dataclasses.replace.
        changed = object.__new__(Conversation)
        changed.__dict__.update(self.__dict__, **changes)
        return changed


class ConversationSnapshot(ConversationEvent):
    """The state at a version, stored so that long conversations load fast."""

    class_version: ClassVar[int] = 4

    state: dict[str, Any]

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Set `generate`: before version 2 the server ran every model."""
        if turn := state["state"]["turn"]:
            turn["generate"] = True

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Rename the version of the turn's start and drop its time.

        Before version 3 there were no tools and no queue. Calls that clients had left open are not in such a snapshot,
        and no result is recorded for them.
        """
        if turn := state["state"]["turn"]:
            turn["first_version"] = turn.pop("started_version")
            del turn["started_at"]

    @staticmethod
    def upcast_v3_v4(state: dict[str, Any]) -> None:
        """Set no deadline: before version 4 a turn waited for ever."""
        if turn := state["state"]["turn"]:
            turn["results_due_at"] = None

    @classmethod
    def take(cls, conversation: Conversation) -> "ConversationSnapshot":
        """Return the snapshot of `conversation` at its version."""
        return cls(
            originator_id=conversation.id,
            originator_version=conversation.version,
            timestamp=conversation.updated_at,
            actor=SYSTEM,
            request_id=None,
            state=_STATE.dump_python(conversation, mode="json"),
        )

    def restore(self) -> Conversation:
        """Return the state that the snapshot holds."""
        return _STATE.validate_python(self.state)


_STATE: TypeAdapter[Conversation] = TypeAdapter(Conversation)


def _started(_: Conversation | None, event: ConversationStarted) -> Conversation:
    return Conversation(
        id=event.originator_id,
        version=event.originator_version,
        visible_version=event.originator_version,
        owner_id=event.owner_id,
        agent_id=event.agent_id,
        title=event.title,
        metadata=event.metadata,
        created_at=event.timestamp,
        updated_at=event.timestamp,
    )


def _updated(state: Conversation, event: ConversationUpdated) -> Conversation:
    return _touched(state, event, title=event.title, metadata=event.metadata)


def _deleted(state: Conversation, event: ConversationDeleted) -> Conversation:
    return _touched(state, event, deleted=True)


def _message_added(state: Conversation, event: MessageAdded) -> Conversation:
    is_from_user = event.role == "user"
    return _touched(
        state,
        event,
        message_count=state.message_count + 1,
        last_message_at=event.timestamp,
        last_user_message_id=event.message_id if is_from_user else state.last_user_message_id,
        open_calls=_open_calls(state, event),
    )


def _open_calls(state: Conversation, event: MessageAdded) -> tuple[str, ...]:
    """Return the open calls after a message. A result closes its call."""
    # System messages may stand anywhere, also between calls and their results.
    if event.role == "assistant":
        return (*state.open_calls, *(call.id for call in tool_uses(event.content)))
    if not state.open_calls or event.role == "system":
        return state.open_calls
    answered = {block.tool_use_id for block in event.content if isinstance(block, ToolResultBlock)}
    return tuple(call for call in state.open_calls if call not in answered)


def _message_deleted(state: Conversation, event: MessageDeleted) -> Conversation:
    return _touched(state, event, message_count=state.message_count - (not event.superseded))


def _messages_superseded(state: Conversation, event: MessagesSuperseded) -> Conversation:
    return _touched(state, event, message_count=state.message_count - event.count, open_calls=())


def _turn_queued(state: Conversation, event: TurnQueued) -> Conversation:
    queued = (QueuedTurn(event.turn_id, event.originator_version),)
    return _touched(state, event, queue=queued + state.queue if event.ahead else state.queue + queued)


def _turn_started(state: Conversation, event: TurnStarted) -> Conversation:
    turn = ActiveTurn(
        id=event.turn_id,
        user_message_id=event.user_message_id,
        message_id=event.message_id,
        model=event.model,
        first_version=event.originator_version,
        generate=event.generate,
    )
    left = _without(state.queue, event.turn_id)
    return _touched(state, event, turn=turn, queue=left, last_user_message_id=event.user_message_id)


def _turn_suspended(state: Conversation, event: TurnSuspended) -> Conversation:
    assert state.turn is not None
    turn = replace(
        state.turn,
        waiting=True,
        usage=event.usage,
        time_to_first_token_ms=event.time_to_first_token_ms,
        duration_ms=event.duration_ms,
        results_due_at=event.results_due_at,
    )
    return _touched(state, event, turn=turn)


def _turn_resumed(state: Conversation, event: TurnResumed) -> Conversation:
    assert state.turn is not None
    return _touched(
        state, event, turn=replace(state.turn, waiting=False, results_due_at=None, message_id=event.message_id)
    )


def _stream_delta(state: Conversation, event: StreamDelta) -> Conversation:
    return state.at_version(event.originator_version)


def _turn_ended(state: Conversation, event: TurnEnded) -> Conversation:
    if state.turn is not None and state.turn.id == event.turn_id:
        return _touched(state, event, turn=None)
    return _touched(state, event, queue=_without(state.queue, event.turn_id))


def _without(queue: tuple[QueuedTurn, ...], turn_id: UUID) -> tuple[QueuedTurn, ...]:
    return tuple(turn for turn in queue if turn.id != turn_id)


def _touched(state: Conversation, event: ConversationEvent, **changes: Any) -> Conversation:
    version = event.originator_version
    return state.with_changes(version=version, visible_version=version, updated_at=event.timestamp, **changes)


def _restored(_: Conversation | None, event: ConversationSnapshot) -> Conversation:
    return event.restore()


_EVOLVE: dict[type[AggregateEvent], Callable[[Any, Any], Conversation]] = {
    ConversationStarted: _started,
    ConversationUpdated: _updated,
    ConversationDeleted: _deleted,
    MessageAdded: _message_added,
    MessageDeleted: _message_deleted,
    MessagesSuperseded: _messages_superseded,
    TurnQueued: _turn_queued,
    TurnStarted: _turn_started,
    StreamDelta: _stream_delta,
    TurnSuspended: _turn_suspended,
    TurnResumed: _turn_resumed,
    TurnCompleted: _turn_ended,
    TurnFailed: _turn_ended,
    TurnCancelled: _turn_ended,
    ConversationSnapshot: _restored,
}
"""The function that applies each event to the state.

Each takes its own event type, so the types are loose.
"""


def evolve(state: Conversation | None, event: AggregateEvent) -> Conversation:
    """Return the state after `event`. The first event of a conversation takes None."""
    return _EVOLVE[type(event)](state, event)


def fold(state: Conversation | None, events: Iterable[AggregateEvent]) -> Conversation | None:
    """Return the state after all `events`, or `state` if there are none."""
    for event in events:
        state = evolve(state, event)
    return state
