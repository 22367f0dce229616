"""The history: all messages and turns of a conversation."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import TupleRow

from domain.events import (
    CONVERSATION_EVENTS,
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    TurnBegun,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from eventlog.db.database import Database
from eventlog.image_store import ImageStore
from eventlog.log import LAST_VERSION
from projections.models.history_rows import (
    MessageRow,
    StreamTextRow,
    TurnRow,
    message_row,
    stream_text_row,
    streaming_row,
    superseded_range,
    turn_change,
    turn_row,
)
from projections.projection import Change, Projection, Rows, json_text, json_value

_UNCHANGED = dict.fromkeys(
    (
        "message_id",
        "usage",
        "finish_reason",
        "error_code",
        "error_detail",
        "ended_at",
        "time_to_first_token_ms",
        "duration_ms",
    )
)


class HistoryProjection(Projection):
    """Builds the history from messages, turns and deltas."""

    name = "history"
    version = 3
    tables = ("history", "turns", "stream_text")
    types = CONVERSATION_EVENTS - {ConversationStarted, ConversationUpdated}

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements that add, then end, then delete."""
        # This order is right for any batch, because nothing that was deleted comes back.
        return [self.sql.change(name, rows) for name, rows in _Batch(events).statements().items() if rows]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return the messages and turns that remain, and the text of running turns."""
        return _Batch(events).remaining_rows()


_SQL = HistoryProjection().sql


class _Batch:
    """The rows that a batch of events adds, changes and deletes."""

    def __init__(self, events: Sequence[ConversationEvent]) -> None:
        self.messages: dict[tuple[UUID, UUID], MessageRow] = {}
        self.begun: dict[tuple[UUID, UUID], TurnRow] = {}
        self.changed: dict[tuple[UUID, UUID], dict[str, Any]] = {}
        self.deltas: dict[tuple[UUID, UUID], list[StreamDelta]] = {}
        self.stream_ended: set[tuple[UUID, UUID]] = set()
        self.ended: set[tuple[UUID, UUID]] = set()
        self.deleted: list[MessageDeleted] = []
        self.superseded: dict[UUID, list[MessagesSuperseded]] = {}
        self.deleted_conversations: list[ConversationDeleted] = []
        for event in events:
            _NOTE[type(event)](self, event)
        self._superseded_from = {id_: _lowest_from_each(events) for id_, events in self.superseded.items()}

    def note_message(self, event: MessageAdded) -> None:
        self.messages[event.originator_id, event.message_id] = message_row(event)

    def note_deleted(self, event: MessageDeleted) -> None:
        self.deleted.append(event)

    def note_superseded(self, event: MessagesSuperseded) -> None:
        self.superseded.setdefault(event.originator_id, []).append(event)

    def note_deleted_conversation(self, event: ConversationDeleted) -> None:
        self.deleted_conversations.append(event)

    def note_delta(self, event: StreamDelta) -> None:
        self.deltas.setdefault((event.originator_id, event.turn_id), []).append(event)

    def note_begun(self, event: TurnBegun) -> None:
        key = event.originator_id, event.turn_id
        self.begun[key] = turn_row(event, self.begun.get(key))

    def note_started(self, event: TurnStarted) -> None:
        self.note_begun(event)
        self.messages[event.originator_id, event.message_id] = streaming_row(event)

    def note_resumed(self, event: TurnResumed) -> None:
        self._note_change(event)
        self.messages[event.originator_id, event.message_id] = streaming_row(event)

    def note_stream_end(self, event: TurnSuspended | TurnEnded) -> None:
        key = self._note_change(event)
        self.stream_ended.add(key)
        self.deltas.pop(key, None)

    def note_ended(self, event: TurnEnded) -> None:
        self.note_stream_end(event)
        self.ended.add((event.originator_id, event.turn_id))

    def _note_change(self, event: TurnResumed | TurnSuspended | TurnEnded) -> tuple[UUID, UUID]:
        key = event.originator_id, event.turn_id
        self.changed[key] = {**self.changed.get(key, {}), **turn_change(event)}
        return key

    def statements(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each statement, in the order in which the statements run."""
        deleted = [{"conversation_id": event.originator_id, "message_id": event.message_id} for event in self.deleted]
        conversations = [{"conversation_id": event.originator_id} for event in self.deleted_conversations]
        return {
            "upsert_messages": [_with_json(row._asdict(), "content", "usage") for row in self.messages.values()],
            "begin_turns": [row._asdict() for row in self.begun.values()],
            "change_turns": [
                _with_json({**_UNCHANGED, **_turn(key), **change}, "usage") for key, change in self.changed.items()
            ],
            "delete_stream_text": [_turn(key) for key in self.stream_ended],
            "insert_stream_text": [
                stream_text_row(event)._asdict() for events in self.deltas.values() for event in events
            ],
            "delete_empty_answers": [_turn(key) for key in self.ended],
            "supersede_messages": [superseded_range(event) for events in self.superseded.values() for event in events],
            "delete_messages": deleted,
            "delete_conversation_messages": conversations,
            "delete_conversation_turns": conversations,
        }

    def remaining_rows(self) -> Rows:
        """Return the rows that remain of whole conversations."""
        deleted = {(event.originator_id, event.message_id) for event in self.deleted}
        deleted_conversations = {event.originator_id for event in self.deleted_conversations}
        turns = [
            row._replace(**self.changed.get(key, {}))
            for key, row in self.begun.items()
            if row.conversation_id not in deleted_conversations
        ]
        return {
            "history": [
                self._mark_superseded(row)
                for key, row in self.messages.items()
                if key not in deleted
                and row.conversation_id not in deleted_conversations
                and not (row.status == "streaming" and (row.conversation_id, row.turn_id) in self.ended)
            ],
            "turns": [tuple(row) for row in turns],
            "stream_text": [stream_text_row(event) for events in self.deltas.values() for event in events],
        }

    def _mark_superseded(self, row: MessageRow) -> MessageRow:
        later = self._superseded_from.get(row.conversation_id)
        if later is None:
            return row
        next_event = bisect_right(later, row.version, key=lambda each: each[0])
        superseded = next_event < len(later) and later[next_event][1] <= row.version
        return row._replace(status="superseded") if superseded else row


_NOTE: dict[type[ConversationEvent], Callable[[_Batch, Any], None]] = {
    MessageAdded: _Batch.note_message,
    MessageDeleted: _Batch.note_deleted,
    MessagesSuperseded: _Batch.note_superseded,
    ConversationDeleted: _Batch.note_deleted_conversation,
    StreamDelta: _Batch.note_delta,
    TurnQueued: _Batch.note_begun,
    TurnStarted: _Batch.note_started,
    TurnResumed: _Batch.note_resumed,
    TurnSuspended: _Batch.note_stream_end,
    TurnCompleted: _Batch.note_ended,
    TurnFailed: _Batch.note_ended,
    TurnCancelled: _Batch.note_ended,
}


class History:
    """Reads the history. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._images = ImageStore(database)

    async def message(self, conversation_id: UUID, message_id: UUID) -> MessageRow | None:
        """Return a message of a conversation, None if there is none of this id."""
        row = await self._database.fetch_one(_SQL.reading("read_message"), _message(conversation_id, message_id))
        return (await self._complete([row]))[0] if row else None

    async def page(
        self, conversation_id: UUID, *, descending: bool, superseded: bool, beyond: int | None, limit: int
    ) -> list[MessageRow]:
        """Return at most `limit` messages beyond a version, which is excluded."""
        name = "read_descending" if descending else "read_ascending"
        start = beyond if beyond is not None else (LAST_VERSION if descending else 0)
        page = {"conversation_id": conversation_id, "beyond": start, "superseded": superseded, "limit": limit}
        return await self._complete(await self._database.fetch(_SQL.reading(name), page))

    async def turn(self, conversation_id: UUID, turn_id: UUID) -> TurnRow | None:
        """Return a turn of a conversation, None if there is none of this id."""
        row = await self._database.fetch_one(_SQL.reading("read_turn"), _turn((conversation_id, turn_id)))
        return TurnRow(*row) if row else None

    async def turns(self, conversation_id: UUID, before: int | None, limit: int) -> list[TurnRow]:
        """Return at most `limit` turns that started before a version, newest first."""
        start = LAST_VERSION if before is None else before
        page = {"conversation_id": conversation_id, "before": start, "limit": limit}
        return [TurnRow(*row) for row in await self._database.fetch(_SQL.reading("read_turns"), page)]

    async def text_so_far(self, turn_id: UUID, among: Sequence[StreamTextRow] | None = None) -> str | None:
        """Return the content of a stream so far as JSON text, None without any text.

        It is that of the read model, or of the rows `among`.
        """
        statement = _SQL.reading("read_stream_text")
        parameters: dict[str, Any] = {"turn_id": turn_id}
        if among is not None:
            statement = _SQL.reading("with_stream_text") + b"\n" + statement
            parameters |= {"rows": orjson.dumps([row._asdict() for row in among]).decode()}
        blocks = await self._database.fetch(statement, parameters)
        return json_text([{"type": type_, "text": text} for type_, text in blocks]) if blocks else None

    async def with_images(self, messages: Sequence[MessageRow]) -> list[MessageRow]:
        """Return messages with the bytes of their images."""
        contents = await self._images.restored_texts([message.content for message in messages])
        return [
            message if message.content is content else message._replace(content=content)
            for message, content in zip(messages, contents, strict=True)
        ]

    async def _complete(self, rows: Sequence[TupleRow]) -> list[MessageRow]:
        """Return messages with the bytes of images and the text of their stream."""
        return await self.with_images([await self._with_text_so_far(MessageRow(*row)) for row in rows])

    async def _with_text_so_far(self, row: MessageRow) -> MessageRow:
        if row.status != "streaming" or row.turn_id is None:
            return row
        content = await self.text_so_far(row.turn_id)
        if content is None:
            # The stream has no text yet, or the turn has ended since the row was read and the message has its text.
            newest = await self._database.fetch_one(_SQL.reading("read_message"), _message(row.conversation_id, row.id))
            return MessageRow(*newest) if newest else row
        return row._replace(content=content)


def _message(conversation_id: UUID, message_id: UUID) -> dict[str, Any]:
    return {"conversation_id": conversation_id, "message_id": message_id}


def _turn(key: tuple[UUID, UUID]) -> dict[str, Any]:
    return {"conversation_id": key[0], "turn_id": key[1]}


def _lowest_from_each(events: Sequence[MessagesSuperseded]) -> list[tuple[int, int]]:
    """Return the version of each event, and the least `from_version` from it on."""
    lowest = accumulate((event.from_version for event in reversed(events)), min)
    return list(zip((event.originator_version for event in events), reversed(list(lowest)), strict=True))


def _with_json(row: dict[str, Any], *columns: str) -> dict[str, Any]:
    """Return `row` with the JSON text of some columns as JSON values."""
    return {**row, **{column: json_value(row[column]) for column in columns}}
