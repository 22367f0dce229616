"""The usage: tokens, cost and time of every turn."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from domain.events import (
    ConversationEvent,
    ConversationStarted,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnStarted,
    TurnSuspended,
)
from projections.projection import Change, Projection, Rows

_STATUS: dict[type[TurnEnded], str] = {TurnCompleted: "completed", TurnFailed: "failed", TurnCancelled: "cancelled"}
_USED = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd")
_UNKNOWN = dict.fromkeys([*_USED, "time_to_first_token_ms", "duration_ms"])


class UsageProjection(Projection):
    """Builds the usage, a row per turn with its conversation's owner and agent.

    A turn counts for the UTC day of its start. The deletion of a conversation does not change its usage.
    """

    name = "usage"
    version = 1
    tables = ("usage", "usage_conversations")
    types = frozenset({ConversationStarted, TurnStarted, TurnSuspended, *_STATUS})

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements that add conversations, then add turns, then end turns."""
        statements = {
            "insert_conversations": [
                _conversation(event) for event in events if isinstance(event, ConversationStarted)
            ],
            "insert_turns": [_started(event) for event in events if isinstance(event, TurnStarted)],
            "change_turns": [{**_UNKNOWN, **change} for change in _changes(events).values()],
        }
        return [self.sql.change(name, rows) for name, rows in statements.items() if rows]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return a row for each conversation and each turn."""
        conversations = {
            event.originator_id: _conversation(event) for event in events if isinstance(event, ConversationStarted)
        }
        changes = _changes(events)
        for change in changes.values():
            change.pop("used", None)
        running = {"status": "running", **_UNKNOWN}
        turns = [
            {**conversations[event.originator_id], **_started(event), **running, **changes.get(event.turn_id, {})}
            for event in events
            if isinstance(event, TurnStarted)
        ]
        tables = {"usage": turns, "usage_conversations": conversations.values()}
        return {table: [tuple(row.values()) for row in rows] for table, rows in tables.items()}


def _conversation(event: ConversationStarted) -> dict[str, Any]:
    return {"conversation_id": event.originator_id, "owner_id": event.owner_id, "agent_id": event.agent_id}


def _started(event: TurnStarted) -> dict[str, Any]:
    day = event.timestamp.astimezone(UTC).date()
    return {"conversation_id": event.originator_id, "turn_id": event.turn_id, "day": day, "model": event.model}


def _changes(events: Sequence[ConversationEvent]) -> dict[UUID, dict[str, Any]]:
    """Return the columns that the events set, by turn."""
    changes: dict[UUID, dict[str, Any]] = {}
    for event in events:
        if isinstance(event, TurnSuspended | TurnEnded):
            ids = {"conversation_id": event.originator_id, "turn_id": event.turn_id}
            changes[event.turn_id] = {**changes.get(event.turn_id, ids), **_used(event)}
    return changes


def _used(event: TurnSuspended | TurnEnded) -> dict[str, Any]:
    status = "running" if isinstance(event, TurnSuspended) else _STATUS[type(event)]
    times = {"time_to_first_token_ms": event.time_to_first_token_ms, "duration_ms": event.duration_ms}
    present = {column: value for column, value in times.items() if value is not None}
    usage = event.usage if isinstance(event, TurnSuspended | TurnCompleted) else None
    used = {"used": True, **usage.model_dump(mode="json", include=set(_USED))} if usage else {}
    return {"status": status, **used, **present}
