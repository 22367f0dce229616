"""The listing: an owner's conversations, most recently active first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from domain.events import (
    EVENT_TYPES,
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    TurnBegun,
    TurnEnded,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.values import JsonObject
from eventlog.db.database import Database
from projections.projection import Change, Projection, Rows, json_text

_BEFORE_FIRST = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))


class ConversationRow(NamedTuple):
    """A conversation in the listing. `metadata` is JSON text.

    `waiting` says whether the active turn waits for tool results. `queued` are the turns that wait for it to end, the
    next one first. Both are None where the views show an older version of the listing.
    """

    id: UUID
    owner_id: str
    agent_id: str | None
    title: str | None
    metadata: str
    message_count: int
    active_turn_id: UUID | None
    created_at: datetime
    updated_at: datetime
    last_message_at: datetime | None
    active_at: datetime
    version: int
    deleted: bool
    waiting: bool | None
    queued: list[UUID] | None


class ListingFilter(NamedTuple):
    """A filter of an owner's conversations.

    `title_contains` ignores case, `metadata` compares as text.
    """

    agent_id: str | None = None
    title_contains: str | None = None
    metadata: dict[str, str] = {}


@dataclass
class _ConversationChange:
    """The change of one conversation by the events of a batch."""

    conversation_id: UUID
    version: int = 0
    updated_at: datetime | None = None
    added: int = 0
    last_message_at: datetime | None = None
    described: bool = False
    title: str | None = None
    metadata: JsonObject | None = None
    deleted: bool = False
    turns: "_TurnsChange | None" = None

    def note(self, event: ConversationEvent) -> None:
        """Add an event of this conversation."""
        self.version = event.originator_version
        self.updated_at = event.timestamp
        if isinstance(event, MessageAdded):
            self.added += 1
            self.last_message_at = event.timestamp
        elif isinstance(event, MessageDeleted):
            self.added -= not event.superseded
        elif isinstance(event, MessagesSuperseded):
            self.added -= event.count
        elif isinstance(event, ConversationUpdated):
            self.described, self.title, self.metadata = True, event.title, event.metadata
        elif isinstance(event, ConversationDeleted):
            self.deleted = True
        elif isinstance(event, TurnBegun | TurnSuspended | TurnResumed | TurnEnded):
            self.turns = self.turns or _TurnsChange(self.conversation_id)
            self.turns.note(event)


@dataclass
class _TurnsChange:
    """The change of one conversation's turns by the events of a batch.

    `over` are the turns that have left the queue, by starting or ending.
    """

    conversation_id: UUID
    started: bool = False
    active_turn_id: UUID | None = None
    waiting: bool | None = None
    ahead: list[UUID] = field(default_factory=list[UUID])
    queued: list[UUID] = field(default_factory=list[UUID])
    over: list[UUID] = field(default_factory=list[UUID])
    ended: list[UUID] = field(default_factory=list[UUID])

    def note(self, event: TurnBegun | TurnSuspended | TurnResumed | TurnEnded) -> None:
        """Add an event of a turn."""
        if isinstance(event, TurnStarted):
            self.started, self.active_turn_id, self.waiting = True, event.turn_id, False
            self.over.append(event.turn_id)
        elif isinstance(event, TurnQueued):
            self.ahead[:0] = [event.turn_id] if event.ahead else []
            self.queued += [] if event.ahead else [event.turn_id]
        elif isinstance(event, TurnEnded):
            self.over.append(event.turn_id)
            self.ended.append(event.turn_id)
            if self.active_turn_id == event.turn_id:
                self.active_turn_id, self.waiting = None, False
        else:
            self.waiting = isinstance(event, TurnSuspended)

    def remaining_queue(self) -> list[UUID]:
        """Return the queue after the batch where it was empty before."""
        return [turn_id for turn_id in [*self.ahead, *self.queued] if turn_id not in self.over]


class ListingProjection(Projection):
    """Builds the listing from every event but deltas."""

    name = "listing"
    version = 2
    tables = ("listing",)
    types = frozenset(EVENT_TYPES.values()) - {StreamDelta}

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements that add conversations, then update them."""
        started: list[dict[str, Any]] = []
        changed: dict[UUID, _ConversationChange] = {}
        for event in events:
            if isinstance(event, ConversationStarted):
                started.append(_started_row(event))
            else:
                changed.setdefault(event.originator_id, _ConversationChange(event.originator_id)).note(event)
        turns = [vars(each.turns) for each in changed.values() if each.turns]
        statements = {
            "insert_started": started,
            "update_changed": [_changed_row(each) for each in changed.values()],
            "update_turns": turns,
        }
        return [self.sql.change(name, rows) for name, rows in statements.items() if rows]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return a row for each conversation with the change by all its events."""
        started: list[ConversationStarted] = []
        changed: dict[UUID, _ConversationChange] = {}
        for event in events:
            if isinstance(event, ConversationStarted):
                started.append(event)
                changed[event.originator_id] = _ConversationChange(event.originator_id)
            # A newer release may have started the conversation with an event that is unknown here.
            if event.originator_id in changed:
                changed[event.originator_id].note(event)
        return {"listing": [_row(event, changed[event.originator_id]) for event in started]}


_SQL = ListingProjection().sql


class Listing:
    """Reads the listing. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, conversation_id: UUID) -> ConversationRow | None:
        """Return a conversation of any owner, deleted or not, None if there is none."""
        row = await self._database.fetch_one(_SQL.reading("read_conversation"), {"conversation_id": conversation_id})
        return ConversationRow(*row) if row else None

    async def page(
        self, owner_id: str | None, filter_: ListingFilter, before: tuple[datetime, UUID] | None, limit: int
    ) -> list[ConversationRow]:
        """Return at most `limit` conversations of an owner or of all, newest first.

        The page begins after the `active_at` and the id in `before`, or with the first conversation.
        """
        active_at, conversation_id = before or _BEFORE_FIRST
        contains = filter_.title_contains
        parameters: dict[str, Any] = {
            "owner_id": owner_id,
            "active_at": active_at,
            "conversation_id": conversation_id,
            "agent_id": filter_.agent_id,
            "title": None if contains is None else f"%{_escaped(contains)}%",
            "keys": list(filter_.metadata),
            "values": list(filter_.metadata.values()),
            "limit": limit,
        }
        if owner_id is None:
            del parameters["owner_id"]
        statement = _SQL.reading("read_page" if owner_id is not None else "read_page_of_all")
        return [ConversationRow(*row) for row in await self._database.fetch(statement, parameters)]

    async def owned(self, owner_id: str, agent_id: str | None) -> list[UUID]:
        """Return the ids of an owner's conversations, of one agent or of all agents."""
        owned = {"owner_id": owner_id, "agent_id": agent_id}
        return [row[0] for row in await self._database.fetch(_SQL.reading("read_owned"), owned)]


def _started_row(event: ConversationStarted) -> dict[str, Any]:
    return {
        "conversation_id": event.originator_id,
        "owner_id": event.owner_id,
        "agent_id": event.agent_id,
        "title": event.title,
        "metadata": _fragment(event.metadata),
        "at": event.timestamp,
    }


def _changed_row(change: _ConversationChange) -> dict[str, Any]:
    row = {**vars(change), "metadata": _fragment(change.metadata)}
    del row["turns"]
    return row


def _row(event: ConversationStarted, change: _ConversationChange) -> ConversationRow:
    described = change if change.described else event
    turns = change.turns or _TurnsChange(event.originator_id)
    return ConversationRow(
        event.originator_id,
        event.owner_id,
        event.agent_id,
        described.title,
        json_text(described.metadata),
        change.added,
        turns.active_turn_id,
        event.timestamp,
        change.updated_at or event.timestamp,
        change.last_message_at,
        change.last_message_at or event.timestamp,
        change.version,
        change.deleted,
        bool(turns.waiting),
        turns.remaining_queue(),
    )


def _fragment(value: Any) -> orjson.Fragment:
    return orjson.Fragment(json_text(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
