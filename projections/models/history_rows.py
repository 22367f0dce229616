"""The rows of the history, messages and turns, as events make them."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.events import (
    MessageAdded,
    MessagesSuperseded,
    StreamDelta,
    TurnBegun,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from projections.projection import json_text


class MessageRow(NamedTuple):
    """A message in the history. `content` and `usage` are JSON text."""

    conversation_id: UUID
    id: UUID
    version: int
    turn_id: UUID | None
    role: str
    author_id: str | None
    content: str
    in_reply_to: UUID | None
    status: str
    model: str | None
    tokens: int
    usage: str | None
    finish_reason: str | None
    created_at: datetime
    said_at: datetime | None = None


class TurnRow(NamedTuple):
    """A turn in the history. `usage` is JSON text.

    `version` is that of the turn's first event.
    """

    conversation_id: UUID
    id: UUID
    version: int
    user_message_id: UUID
    message_id: UUID
    status: str
    model: str
    usage: str | None
    finish_reason: str | None
    error_code: str | None
    error_detail: str | None
    started_at: datetime | None
    ended_at: datetime | None
    time_to_first_token_ms: float | None
    duration_ms: float | None


class StreamTextRow(NamedTuple):
    """A text of a running turn: that of a delta, or of several of one block."""

    turn_id: UUID
    first_seq: int
    block_index: int
    block_type: str
    text: str


def message_row(event: MessageAdded) -> MessageRow:
    """Return the row of a message that is added."""
    return MessageRow(
        event.originator_id,
        event.message_id,
        event.originator_version,
        event.turn_id,
        event.role,
        event.author_id,
        json_text(event.content),
        event.in_reply_to,
        event.status,
        event.model,
        event.tokens,
        json_text(event.usage) if event.usage else None,
        event.finish_reason,
        event.timestamp,
        event.said_at,
    )


def turn_row(event: TurnBegun, queued: TurnRow | None = None) -> TurnRow:
    """Return the row of a turn that is queued or starts.

    `queued` is its row in the queue, if it was there.
    """
    waits = isinstance(event, TurnQueued)
    return TurnRow(
        event.originator_id,
        event.turn_id,
        queued.version if queued else event.originator_version,
        event.user_message_id,
        event.message_id,
        "queued" if waits else "running",
        event.model,
        None,
        None,
        None,
        None,
        None if waits else event.timestamp,
        None,
        None,
        None,
    )


def turn_change(event: TurnResumed | TurnSuspended | TurnEnded) -> dict[str, Any]:
    """Return the columns that an event changes in the row of its turn."""
    if isinstance(event, TurnResumed):
        return {"status": "running", "message_id": event.message_id}
    usage = event.usage if isinstance(event, TurnSuspended | TurnCompleted) else None
    change: dict[str, Any] = {
        "usage": json_text(usage) if usage else None,
        "time_to_first_token_ms": event.time_to_first_token_ms,
        "duration_ms": event.duration_ms,
    }
    present = {column: value for column, value in change.items() if value is not None}
    if isinstance(event, TurnSuspended):
        return {**present, "status": "requires_action"}
    ended = {**present, "ended_at": event.timestamp}
    if isinstance(event, TurnCompleted):
        return {**ended, "status": "completed", "finish_reason": event.finish_reason}
    if isinstance(event, TurnFailed):
        return {**ended, "status": "failed", "error_code": event.reason, "error_detail": event.detail}
    return {**ended, "status": "cancelled"}


def streaming_row(event: TurnStarted | TurnResumed) -> MessageRow:
    """Return the row of an answer at the start of its stream, without text."""
    identity = (event.originator_id, event.message_id, event.originator_version, event.turn_id)
    message = ("assistant", None, "[]", event.user_message_id, "streaming")
    return MessageRow(*identity, *message, event.model, 0, None, None, event.timestamp)


def stream_text_row(event: StreamDelta) -> StreamTextRow:
    """Return the row of a delta."""
    return StreamTextRow(event.turn_id, event.first_seq, event.block_index, event.block_type, "".join(event.chunks))


def superseded_range(event: MessagesSuperseded) -> dict[str, Any]:
    """Return a conversation and the range of its superseded versions."""
    versions = {"from_version": event.from_version, "before_version": event.originator_version}
    return {"conversation_id": event.originator_id, **versions}
