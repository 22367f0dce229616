"""The listing: an owner's conversations, most recently active first."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
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
    TurnEnded,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.values import JsonObject
from eventlog.db.database import Database
from projections.models.listing_filter import ConversationStatus, ListingFilter, ListingPlace, ListingSort
from projections.models.title_order import title_key
from projections.projection import Change, Projection, Rows, json_text

OWNED_PAGE = 1000


class ConversationRow(NamedTuple):
    """A conversation in the listing. `metadata` is JSON text.

    `waiting` says whether the active turn waits for tool results. `queued` are the turns that wait for it to end, the
    next one first. `title_key` orders by title. The last three are None where the views show an older version of the
    listing.
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
    title_key: str | None

    @property
    def status(self) -> ConversationStatus:
        """The status, as the view has it."""
        if self.waiting:
            return "requires_action"
        return "running" if self.active_turn_id or self.queued else "idle"

    def place(self, sort: ListingSort) -> ListingPlace:
        """Return the place of this row in an order."""
        if sort == "title":
            return ListingPlace(self.title_key or "", self.id)
        return ListingPlace(self.active_at if sort == "active" else self.created_at, self.id)


class MessageRun(NamedTuple):
    """All messages of a conversation up to the last one, as their number.

    The first three fields are those of the last event.
    """

    originator_id: UUID
    originator_version: int
    timestamp: datetime
    messages: int


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

    def note(self, event: ConversationEvent | MessageRun) -> None:
        """Add an event of this conversation, or its messages up to here."""
        self.version = event.originator_version
        self.updated_at = event.timestamp
        if isinstance(event, MessageAdded | MessageRun):
            self.added += event.messages if isinstance(event, MessageRun) else 1
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
    version = 3
    tables = ("listing",)
    types = CONVERSATION_EVENTS - {StreamDelta}

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
        return {"listing": list(listing_rows(events))}


def listing_rows(events: Iterable[ConversationEvent | MessageRun]) -> list[ConversationRow]:
    """Return a row for each conversation with the change by all its events.

    A run may stand for the events that add messages.
    """
    started: list[ConversationStarted] = []
    changed: dict[UUID, _ConversationChange] = {}
    for event in events:
        if isinstance(event, ConversationStarted):
            started.append(event)
            changed[event.originator_id] = _ConversationChange(event.originator_id)
        # A newer release may have started the conversation with an event that is unknown here.
        if event.originator_id in changed:
            changed[event.originator_id].note(event)
    return [_row(event, changed[event.originator_id]) for event in started]


_SQL = ListingProjection().sql


class Listing:
    """Reads the listing. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, conversation_id: UUID, owner_id: str | None = None) -> ConversationRow | None:
        """Return a conversation of an owner, or (by default) of anybody, or None.

        A deleted one is returned too.
        """
        # Another owner's row is not read, because reading it would take longer than finding none.
        parameters = {"conversation_id": conversation_id, "owner_id": owner_id}
        row = await self._database.fetch_one(_statement("read", "where_id"), parameters)
        return ConversationRow(*row) if row else None

    async def page(
        self,
        owner_id: str | None,
        filter_: ListingFilter,
        beyond: ListingPlace | None,
        limit: int,
        sort: ListingSort = "active",
        among: Sequence[ConversationRow] | None = None,
    ) -> list[ConversationRow]:
        """Return at most `limit` conversations of an owner, or with None of all owners.

        The page begins after the place `beyond`, or with the first conversation. It is a page of all conversations,
        or of the rows `among`.
        """
        rows = await self._read("read", owner_id, filter_, beyond, limit, sort, among)
        return [ConversationRow(*row) for row in rows]

    async def count_live(self, owner_id: str, agent_id: str, at_most: int) -> int:
        """Return how many conversations an owner has with an agent, at most `at_most`."""
        parameters = {"owner_id": owner_id, "agent_id": agent_id, "at_most": at_most}
        row = await self._database.fetch_one(_SQL.reading("count_live"), parameters)
        return row[0] if row else 0

    async def owned(self, owner_id: str, agent_id: str | None) -> AsyncGenerator[list[UUID]]:
        """Yield the ids of an owner's conversations in pages, newest first.

        They are those of one agent or of all agents. Conversations that start meanwhile are not among them.
        """
        beyond: ListingPlace | None = None
        while rows := await self._read(
            "read_created", owner_id, ListingFilter(agent_id), beyond, OWNED_PAGE, "created"
        ):
            yield [row[1] for row in rows]
            beyond = ListingPlace(*rows[-1])

    async def _read(
        self,
        columns: str,
        owner_id: str | None,
        filter_: ListingFilter,
        beyond: ListingPlace | None,
        limit: int,
        sort: ListingSort,
        among: Sequence[ConversationRow] | None = None,
    ) -> list[TupleRow]:
        parameters = {**filter_.parameters(owner_id), "limit": limit}
        source: list[str] = []
        places: list[str] = []
        if among is not None:
            source = ["with_rows"]
            parameters |= {"rows": orjson.dumps(list(map(_view_row, among))).decode()}
        if beyond:
            places = [f"beyond_{sort}"]
            parameters |= {"place": beyond.value, "place_id": beyond.id}
        conditions = filter_.conditions(owner_id, sort)
        statement = _statement(*source, columns, "where_listed", *conditions, *places, f"first_{sort}")
        return await self._database.fetch(statement, parameters)


def _statement(*parts: str) -> bytes:
    """Return the statement that some parts of the SQL file make together."""
    return b"\n".join(map(_SQL.reading, parts))


def _started_row(event: ConversationStarted) -> dict[str, Any]:
    return {
        "conversation_id": event.originator_id,
        "owner_id": event.owner_id,
        "agent_id": event.agent_id,
        "title": event.title,
        "title_key": title_key(event.title),
        "metadata": _fragment(event.metadata),
        "at": event.timestamp,
    }


def _changed_row(change: _ConversationChange) -> dict[str, Any]:
    row = {**vars(change), "metadata": _fragment(change.metadata)}
    del row["turns"]
    if change.described:
        row["title_key"] = title_key(change.title)
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
        max(change.last_message_at or event.timestamp, event.timestamp),
        change.version,
        change.deleted,
        bool(turns.waiting),
        turns.remaining_queue(),
        title_key(described.title),
    )


def _view_row(row: ConversationRow) -> dict[str, Any]:
    """Return a row with the columns of the view, as JSON."""
    columns = row._asdict()
    id_ = columns.pop("id")
    return {**columns, "conversation_id": id_, "metadata": orjson.Fragment(row.metadata), "status": row.status}


def _fragment(value: Any) -> orjson.Fragment:
    return orjson.Fragment(json_text(value))
