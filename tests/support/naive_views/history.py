"""A naive view of the messages and of the text of running turns."""

from collections.abc import Iterable
from uuid import UUID

from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from tests.support.naive_views.rows import Row, without


def naive_history(events: Iterable[ConversationEvent]) -> list[Row]:
    """Return the messages. A streaming one has no text."""
    history: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, MessageAdded):
            history[event.message_id] = {
                "conversation_id": event.originator_id,
                "message_id": event.message_id,
                "version": event.originator_version,
                "turn_id": event.turn_id,
                "role": event.role,
                "author_id": event.author_id,
                "content": [block.model_dump(mode="json") for block in event.content],
                "in_reply_to": event.in_reply_to,
                "status": event.status,
                "model": event.model,
                "tokens": event.tokens,
                "usage": event.usage.model_dump(mode="json") if event.usage else None,
                "finish_reason": event.finish_reason,
                "created_at": event.timestamp,
                "said_at": event.said_at,
            }
        elif isinstance(event, TurnStarted | TurnResumed):
            history[event.message_id] = {
                "conversation_id": event.originator_id,
                "message_id": event.message_id,
                "version": event.originator_version,
                "turn_id": event.turn_id,
                "role": "assistant",
                "author_id": None,
                "content": [],
                "in_reply_to": event.user_message_id,
                "status": "streaming",
                "model": event.model,
                "tokens": 0,
                "usage": None,
                "finish_reason": None,
                "created_at": event.timestamp,
                "said_at": None,
            }
        elif isinstance(event, TurnEnded):
            history = without(history, lambda m, e=event: m["turn_id"] == e.turn_id and m["status"] == "streaming")
        elif isinstance(event, MessagesSuperseded):
            for row in history.values():
                if row["conversation_id"] == event.originator_id and row["version"] >= event.from_version:
                    row["status"] = "superseded"
        elif isinstance(event, MessageDeleted):
            history.pop(event.message_id, None)
        elif isinstance(event, ConversationDeleted):
            history = without(history, lambda m, e=event: m["conversation_id"] == e.originator_id)
    return list(history.values())


def naive_stream_text(events: Iterable[ConversationEvent]) -> list[Row]:
    """Return the deltas of running turns."""
    running: dict[UUID, list[Row]] = {}
    for event in events:
        if isinstance(event, StreamDelta):
            running.setdefault(event.turn_id, []).append(
                {
                    "turn_id": event.turn_id,
                    "first_seq": event.first_seq,
                    "block_index": event.block_index,
                    "block_type": event.block_type,
                    "text": "".join(event.chunks),
                }
            )
        elif isinstance(event, TurnSuspended | TurnEnded):
            running.pop(event.turn_id, None)
    return [row for deltas in running.values() for row in deltas]
