"""Reading the events of a part in chunks of whole aggregates, in workers."""

from collections.abc import Generator, Sequence
from itertools import groupby
from operator import attrgetter
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from domain.aggregates import AggregateEvent
from domain.events import (
    EVENT_TYPES,
    StreamDelta,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from eventlog.db.statements import load_statements
from eventlog.mapper import Recorded, Row
from projections.projection import Projection
from projections.rebuild.plan import Part

CHUNK_EVENTS = 2000

_SQL = load_statements("projections.rebuild", "part_events.sql")
_STREAM_BOUNDARIES = (TurnStarted, TurnSuspended, TurnResumed, TurnEnded)
"""The events between which the deltas of a running turn are."""

SyncConnection = psycopg.Connection[TupleRow]


def read_chunks(
    connection: SyncConnection, projections: Sequence[Projection], part: Part, target: int
) -> Generator[list[Recorded]]:
    """Yield the events of a part up to `target`, in chunks.

    The events are those that `projections` use, ordered by aggregate and version.

    A chunk has about `CHUNK_EVENTS` events of whole aggregates.
    """
    types = set[type[AggregateEvent]]().union(*(projection.types for projection in projections))
    streams = StreamDelta in types
    if streams:
        types |= {type_ for type_ in EVENT_TYPES.values() if issubclass(type_, _STREAM_BOUNDARIES)}
    names = sorted(type_.TOPIC for type_ in types - {StreamDelta})
    chunk: list[Recorded] = []
    with connection.transaction(), connection.cursor("part") as cursor:
        cursor.itersize = CHUNK_EVENTS
        cursor.execute(_SQL["read_part"], {**part._asdict(), "target": target, "types": names})
        for _, rows in groupby(cursor, key=lambda row: row[2]):
            aggregate = [Row(*row).recorded() for row in rows]
            chunk += _with_deltas(connection, aggregate, target) if streams else aggregate
            if len(chunk) >= CHUNK_EVENTS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _with_deltas(connection: SyncConnection, conversation: list[Recorded], target: int) -> list[Recorded]:
    """Return the events of a conversation with the deltas of a running turn."""
    # Several turns run where a newer release has ended turns with an event that this release does not know.
    running: dict[UUID, Recorded] = {}
    for item in conversation:
        if isinstance(item.event, TurnStarted | TurnResumed):
            running[item.event.turn_id] = item
        elif isinstance(item.event, TurnSuspended | TurnEnded):
            running.pop(item.event.turn_id, None)
    if not running:
        return conversation
    first = min(item.position for item in running.values())
    section = {"conversation_id": conversation[0].event.originator_id, "after": first, "target": target}
    rows = connection.execute(_SQL["read_deltas"], section)
    deltas = (Row(*row).recorded() for row in rows)
    return sorted([*conversation, *(item for item in deltas if _belongs_to(running, item))], key=attrgetter("position"))


def _belongs_to(running: dict[UUID, Recorded], delta: Recorded) -> bool:
    """Return whether a delta may belong to the answer of a running turn.

    A delta of an unknown version may.
    """
    if not isinstance(delta.event, StreamDelta):
        return True
    start = running.get(delta.event.turn_id)
    return start is not None and delta.position > start.position
