"""The JSON of conversations, messages, turns, agents and events for clients."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from domain.conversation import Conversation
from projections.models.agent_listing import AgentRow
from projections.models.history_rows import MessageRow, TurnRow
from projections.models.listing import ConversationRow
from projections.projection import json_text


def rfc3339(at: datetime | None) -> str | None:
    """Return a UTC time in RFC 3339 with six digits of microseconds."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z") if at else None


def conversation_resource(row: ConversationRow) -> dict[str, Any]:
    """Return the JSON of a conversation in the listing."""
    active = row.active_turn_id or next(iter(row.queued or ()), None)
    return _conversation(row, orjson.Fragment(row.metadata), row.version, active, waiting=bool(row.waiting))


def state_resource(state: Conversation) -> dict[str, Any]:
    """Return the JSON of a conversation after a command, as the listing will."""
    metadata, turn = orjson.Fragment(json_text(state.metadata)), state.turn
    active = turn.id if turn else state.locked_by
    return _conversation(state, metadata, state.visible_version, active, waiting=turn is not None and turn.waiting)


def _conversation(
    source: ConversationRow | Conversation, metadata: Any, version: int, active_turn_id: UUID | None, *, waiting: bool
) -> dict[str, Any]:
    busy = "requires_action" if waiting else "running"
    return {
        "id": source.id,
        "object": "conversation",
        "owner_id": source.owner_id,
        "agent_id": source.agent_id,
        "title": source.title,
        "metadata": metadata,
        "message_count": source.message_count,
        "status": busy if active_turn_id else "idle",
        "active_turn_id": active_turn_id,
        "forked_from": None,
        "created_at": rfc3339(source.created_at),
        "updated_at": rfc3339(source.updated_at),
        "last_message_at": rfc3339(source.last_message_at),
        "version": version,
    }


def message_resource(row: MessageRow) -> dict[str, Any]:
    """Return the JSON of a message in the history."""
    return {
        "id": row.id,
        "object": "message",
        "conversation_id": row.conversation_id,
        "turn_id": row.turn_id,
        "role": row.role,
        "author_id": row.author_id,
        "content": orjson.Fragment(row.content),
        "in_reply_to": row.in_reply_to,
        "status": row.status,
        "model": row.model,
        "tokens": row.tokens,
        "usage": _usage(row.usage),
        "finish_reason": row.finish_reason,
        "created_at": rfc3339(row.created_at),
        "said_at": rfc3339(row.said_at),
        "version": row.version,
    }


def turn_resource(row: TurnRow) -> dict[str, Any]:
    """Return the JSON of a turn in the history."""
    error = {"code": row.error_code, "detail": row.error_detail} if row.error_code else None
    return {
        "id": row.id,
        "object": "turn",
        "conversation_id": row.conversation_id,
        "user_message_id": row.user_message_id,
        "message_id": row.message_id,
        "status": row.status,
        "model": row.model,
        "usage": _usage(row.usage),
        "finish_reason": row.finish_reason,
        "error": error,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at),
        "time_to_first_token_ms": row.time_to_first_token_ms,
        "duration_ms": row.duration_ms,
    }


def agent_resource(row: AgentRow) -> dict[str, Any]:
    """Return the JSON of an agent."""
    return {
        "id": row.agent_id,
        "object": "agent",
        "owner_id": row.owner_id,
        "shared": row.owner_id is None,
        "system_prompt": row.system_prompt,
        "model": row.model,
        "max_context_tokens": row.max_context_tokens,
        "temperature": row.temperature,
        "tools": orjson.Fragment(row.tools),
        "max_conversations": row.max_conversations,
        "retain_days": row.retain_days,
        "tool_results_timeout_s": row.tool_results_timeout_s,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "version": row.version,
    }


def _usage(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    usage = orjson.loads(text)
    # The stored cost is an exact decimal string. Clients get a number.
    cost = usage["cost_usd"]
    return {**usage, "cost_usd": None if cost is None else float(cost)}


def recorded_event_resource(record: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a record of `Log`."""
    return {**record, "data": orjson.Fragment(record["data"]), "recorded_at": rfc3339(record["recorded_at"])}
