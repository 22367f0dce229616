"""The turns that wait for tool results until a deadline."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from domain.events import (
    ConversationEvent,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnResumed,
    TurnSuspended,
)
from eventlog.db.database import Database
from projections.projection import Change, Projection, Rows


class WaitRow(NamedTuple):
    """A turn that waits for tool results, and the time when it fails without them."""

    turn_id: UUID
    conversation_id: UUID
    due_at: datetime


_WAITING = (TurnSuspended, TurnResumed, TurnEnded)
"""The events of a turn that waits: a wait begins or ends."""


class WaitsProjection(Projection):
    """Builds the waits, a row per turn that waits until a deadline.

    The deletion of a conversation first cancels its turns.
    """

    name = "waits"
    version = 1
    tables = ("waits",)
    types = frozenset({TurnSuspended, TurnResumed, TurnCompleted, TurnFailed, TurnCancelled})

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements that delete the waits of all turns, then add some."""
        turns = {event.turn_id: {"turn_id": event.turn_id} for event in events if isinstance(event, _WAITING)}
        rows = [row._asdict() for row in _remaining(events)]
        statements = {"delete_waits": list(turns.values()), "insert_waits": rows}
        return [self.sql.change(name, each) for name, each in statements.items() if each]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return a row for each turn that still waits until a deadline."""
        return {"waits": [tuple(row) for row in _remaining(events)]}


def _remaining(events: Sequence[ConversationEvent]) -> list[WaitRow]:
    waits: dict[UUID, WaitRow] = {}
    for event in events:
        if isinstance(event, TurnSuspended) and event.results_due_at is not None:
            waits[event.turn_id] = WaitRow(event.turn_id, event.originator_id, event.results_due_at)
        elif isinstance(event, _WAITING):
            waits.pop(event.turn_id, None)
    return list(waits.values())


_SQL = WaitsProjection().sql


class Waits:
    """Reads the waits. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, until: datetime, limit: int) -> list[WaitRow]:
        """Return at most `limit` waits that end by a time, the earliest first."""
        parameters = {"until": until, "limit": limit}
        return [WaitRow(*row) for row in await self._database.fetch(_SQL.reading("read_due"), parameters)]
