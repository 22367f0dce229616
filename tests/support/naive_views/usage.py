"""A naive view of the usage of turns."""

from collections.abc import Iterable
from datetime import date
from uuid import UUID

from domain.events import (
    ConversationEvent,
    ConversationStarted,
    TurnCompleted,
    TurnEnded,
    TurnStarted,
    TurnSuspended,
)
from tests.support.naive_views.rows import Row


def naive_usage(events: Iterable[ConversationEvent]) -> list[Row]:
    """Return all turns, including those that were deleted."""
    started: dict[UUID, ConversationStarted] = {}
    turns: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, ConversationStarted):
            started[event.originator_id] = event
        elif isinstance(event, TurnStarted):
            turns[event.turn_id] = {
                "conversation_id": event.originator_id,
                "owner_id": started[event.originator_id].owner_id,
                "agent_id": started[event.originator_id].agent_id,
                "turn_id": event.turn_id,
                "day": date(event.timestamp.year, event.timestamp.month, event.timestamp.day),
                "model": event.model,
                "status": "running",
                **dict.fromkeys(["input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"]),
                **dict.fromkeys(["cost_usd", "time_to_first_token_ms", "duration_ms"]),
            }
        elif isinstance(event, TurnSuspended | TurnEnded) and event.turn_id in turns:
            turn = turns[event.turn_id]
            if isinstance(event, TurnEnded):
                turn["status"] = type(event).__name__.removeprefix("Turn").lower()
            for name in ("time_to_first_token_ms", "duration_ms"):
                turn[name] = turn[name] if getattr(event, name) is None else getattr(event, name)
            if isinstance(event, TurnSuspended | TurnCompleted) and event.usage:
                turn["input_tokens"] = event.usage.input_tokens
                turn["output_tokens"] = event.usage.output_tokens
                turn["cached_input_tokens"] = event.usage.cached_input_tokens
                turn["reasoning_tokens"] = event.usage.reasoning_tokens
                turn["cost_usd"] = event.usage.cost_usd
    return list(turns.values())


def naive_usage_conversations(events: Iterable[ConversationEvent]) -> list[Row]:
    return [
        {"conversation_id": event.originator_id, "owner_id": event.owner_id, "agent_id": event.agent_id}
        for event in events
        if isinstance(event, ConversationStarted)
    ]
