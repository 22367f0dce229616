"""A naive view of the turns."""

from collections.abc import Iterable
from uuid import UUID

from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from tests.support.naive_views.rows import Row, without


def naive_turns(events: Iterable[ConversationEvent]) -> list[Row]:
    turns: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, TurnQueued):
            turns[event.turn_id] = _new(event, "queued")
        elif isinstance(event, TurnStarted):
            turns.setdefault(event.turn_id, _new(event, "running"))
            turns[event.turn_id] |= {"status": "running", "model": event.model, "started_at": event.timestamp}
        elif isinstance(event, TurnSuspended):
            turns[event.turn_id]["status"] = "requires_action"
            _note_what_is_known(turns[event.turn_id], event)
        elif isinstance(event, TurnResumed):
            turns[event.turn_id] |= {"status": "running", "message_id": event.message_id}
        elif isinstance(event, TurnEnded):
            turns[event.turn_id] |= {"status": "cancelled", "ended_at": event.timestamp}
            _note_what_is_known(turns[event.turn_id], event)
            if isinstance(event, TurnCompleted):
                turns[event.turn_id] |= {"status": "completed", "finish_reason": event.finish_reason}
            elif isinstance(event, TurnFailed):
                broken = {"error_code": event.reason, "error_detail": event.detail}
                turns[event.turn_id] |= {"status": "failed", **broken}
        elif isinstance(event, ConversationDeleted):
            turns = without(turns, lambda t, e=event: t["conversation_id"] == e.originator_id)
    return list(turns.values())


def _new(event: TurnQueued | TurnStarted, status: str) -> Row:
    return {
        "conversation_id": event.originator_id,
        "turn_id": event.turn_id,
        "version": event.originator_version,
        "user_message_id": event.user_message_id,
        "message_id": event.message_id,
        "status": status,
        "model": event.model,
        **dict.fromkeys(["usage", "finish_reason", "error_code", "error_detail", "started_at", "ended_at"]),
        **dict.fromkeys(["time_to_first_token_ms", "duration_ms"]),
    }


def _note_what_is_known(turn: Row, event: TurnSuspended | TurnEnded) -> None:
    """Update a row with the totals of the turn that an event holds.

    Other values are kept.
    """
    if event.time_to_first_token_ms is not None:
        turn["time_to_first_token_ms"] = event.time_to_first_token_ms
    if event.duration_ms is not None:
        turn["duration_ms"] = event.duration_ms
    if isinstance(event, TurnSuspended | TurnCompleted) and event.usage is not None:
        turn["usage"] = event.usage.model_dump(mode="json")
