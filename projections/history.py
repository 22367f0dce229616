"""The message history: every message of a conversation, one being streamed with its text so far, and the turns."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    MessageAdded,
    MessageDeleted,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnStarted,
)
from eventlog.database import Database
from projections.projection import Change, Projection, Rows, json_text, json_value

_LAST_VERSION = 2**31 - 1


class MessageRow(NamedTuple):
    """A message as the history holds it; `content` and `usage` are JSON text."""

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


class TurnRow(NamedTuple):
    """A turn as the history holds it; `usage` is JSON text, `version` that of its start."""

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
    started_at: datetime
    ended_at: datetime | None
    time_to_first_token_ms: float | None
    duration_ms: float | None


class HistoryProjection(Projection):
    """Builds the history from messages, turns and their deltas."""

    name = "history"
    version = 1
    tables = ("history", "turns", "stream_text")
    types = frozenset(
        {
            MessageAdded,
            MessageDeleted,
            TurnStarted,
            StreamDelta,
            TurnCompleted,
            TurnFailed,
            TurnCancelled,
            ConversationDeleted,
        }
    )

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Write what is new, then end what ended, then remove what was deleted: in a log nothing comes back."""
        return [self.sql.change(name, rows) for name, rows in _Batch(events).statements().items() if rows]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return the messages that are left, all turns, and what running turns have said so far."""
        return _Batch(events).left()


_SQL = HistoryProjection().sql


class _Batch:
    """The rows that a batch of events writes and removes."""

    def __init__(self, events: Sequence[ConversationEvent]) -> None:
        self.messages: dict[tuple[UUID, UUID], MessageRow] = {}
        self.started: list[TurnStarted] = []
        self.ended: list[TurnEnded] = []
        self.deltas: list[StreamDelta] = []
        self.deleted: list[MessageDeleted] = []
        self.deleted_conversations: list[ConversationDeleted] = []
        for event in events:
            self._note(event)

    def _note(self, event: ConversationEvent) -> None:
        """Take in one more event."""
        if isinstance(event, MessageAdded):
            self.messages[event.originator_id, event.message_id] = message_row(event)
        elif isinstance(event, StreamDelta):
            self.deltas.append(event)
        elif isinstance(event, TurnStarted):
            self.messages[event.originator_id, event.message_id] = _unsaid(event)
            self.started.append(event)
        elif isinstance(event, TurnEnded):
            self.ended.append(event)
        elif isinstance(event, MessageDeleted):
            self.deleted.append(event)
        elif isinstance(event, ConversationDeleted):
            self.deleted_conversations.append(event)

    def statements(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each statement, in an order of statements that is right for any batch."""
        ended = [{"conversation_id": event.originator_id, "turn_id": event.turn_id} for event in self.ended]
        gone = {event.turn_id for event in self.ended}
        deleted = [{"conversation_id": event.originator_id, "message_id": event.message_id} for event in self.deleted]
        conversations = [{"conversation_id": event.originator_id} for event in self.deleted_conversations]
        return {
            "upsert_messages": [_with_json(row, "content", "usage") for row in self.messages.values()],
            "insert_turns": [_with_json(turn_row(event), "usage") for event in self.started],
            "end_turns": [{**ids, **_end(event)} for ids, event in zip(ended, self.ended, strict=True)],
            "insert_stream_text": [_said_so_far(event) for event in self.deltas if event.turn_id not in gone],
            "delete_unsaid": ended,
            "delete_stream_text": ended,
            "delete_messages": deleted,
            "delete_conversation_messages": conversations,
            "delete_conversation_turns": conversations,
        }

    def left(self) -> Rows:
        """Return the rows that are left of whole conversations."""
        ended = {event.turn_id: event for event in self.ended}
        deleted = {(event.originator_id, event.message_id) for event in self.deleted}
        gone = {event.originator_id for event in self.deleted_conversations}
        return {
            "history": [
                row
                for key, row in self.messages.items()
                if key not in deleted
                and row.conversation_id not in gone
                and not (row.status == "streaming" and row.turn_id in ended)
            ],
            "turns": [
                turn_row(event, ended.get(event.turn_id)) for event in self.started if event.originator_id not in gone
            ],
            "stream_text": [tuple(_said_so_far(event).values()) for event in self.deltas if event.turn_id not in ended],
        }


class History:
    """Reads the history. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def message(self, conversation_id: UUID, message_id: UUID) -> MessageRow | None:
        """Return a message, None if the conversation holds none of this id."""
        row = await self._database.fetch_one(_SQL.reading("read_message"), [conversation_id, message_id])
        return await self._with_text_so_far(MessageRow(*row)) if row else None

    async def page(
        self, conversation_id: UUID, *, descending: bool, beyond: int | None, limit: int
    ) -> list[MessageRow]:
        """Return at most `limit` messages beyond a version, oldest or newest first."""
        name = "read_descending" if descending else "read_ascending"
        start = beyond if beyond is not None else (_LAST_VERSION if descending else 0)
        rows = await self._database.fetch(_SQL.reading(name), [conversation_id, start, limit])
        return [await self._with_text_so_far(MessageRow(*row)) for row in rows]

    async def turn(self, conversation_id: UUID, turn_id: UUID) -> TurnRow | None:
        """Return a turn, None if the conversation had none of this id."""
        row = await self._database.fetch_one(_SQL.reading("read_turn"), [conversation_id, turn_id])
        return TurnRow(*row) if row else None

    async def turns(self, conversation_id: UUID, before: int | None, limit: int) -> list[TurnRow]:
        """Return at most `limit` turns that started before a version, newest first."""
        start = _LAST_VERSION if before is None else before
        rows = await self._database.fetch(_SQL.reading("read_turns"), [conversation_id, start, limit])
        return [TurnRow(*row) for row in rows]

    async def _with_text_so_far(self, row: MessageRow) -> MessageRow:
        if row.status != "streaming":
            return row
        blocks = await self._database.fetch(_SQL.reading("read_stream_text"), [row.turn_id])
        if not blocks:
            # Nothing was said yet, or the turn has ended since the row was read and the message has its text.
            newest = await self._database.fetch_one(_SQL.reading("read_message"), [row.conversation_id, row.id])
            return MessageRow(*newest) if newest else row
        return row._replace(content=json_text([{"type": type_, "text": text} for type_, text in blocks]))


def message_row(event: MessageAdded) -> MessageRow:
    """Return the row of a message as it was said."""
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
    )


def turn_row(started: TurnStarted, ended: TurnEnded | None = None) -> TurnRow:
    """Return the row of a turn that runs, or that ended."""
    row = TurnRow(
        started.originator_id,
        started.turn_id,
        started.originator_version,
        started.user_message_id,
        started.message_id,
        "running",
        started.model,
        None,
        None,
        None,
        None,
        started.timestamp,
        None,
        None,
        None,
    )
    if ended is None:
        return row
    usage = ended.usage if isinstance(ended, TurnCompleted) else None
    return row._replace(**{**_end(ended), "usage": json_text(usage) if usage else None})


def _unsaid(event: TurnStarted) -> MessageRow:
    identity = (event.originator_id, event.message_id, event.originator_version, event.turn_id)
    said = ("assistant", None, "[]", event.user_message_id, "streaming")
    return MessageRow(*identity, *said, event.model, 0, None, None, event.timestamp)


def _end(event: TurnEnded) -> dict[str, Any]:
    end: dict[str, Any] = {
        "status": "cancelled",
        "usage": None,
        "finish_reason": None,
        "error_code": None,
        "error_detail": None,
        "ended_at": event.timestamp,
        "time_to_first_token_ms": event.time_to_first_token_ms,
        "duration_ms": event.duration_ms,
    }
    if isinstance(event, TurnCompleted):
        usage = json_value(json_text(event.usage)) if event.usage else None
        return {**end, "status": "completed", "usage": usage, "finish_reason": event.finish_reason}
    if isinstance(event, TurnFailed):
        return {**end, "status": "failed", "error_code": event.reason, "error_detail": event.detail}
    return end


def _said_so_far(event: StreamDelta) -> dict[str, Any]:
    place = {"turn_id": event.turn_id, "first_seq": event.first_seq, "block_index": event.block_index}
    return {**place, "block_type": event.block_type, "text": "".join(event.chunks)}


def _with_json(row: MessageRow | TurnRow, *columns: str) -> dict[str, Any]:
    """Return a row whose JSON texts are JSON values, as statements take it."""
    values = row._asdict()
    return {**values, **{column: json_value(values[column]) for column in columns}}
