"""Loading parts of a build: whole conversations read from the log, their rows written with COPY; run by workers."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from domain.events import (
    EVENT_TYPES,
    ConversationEvent,
    StreamDelta,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from eventlog.errors import UnknownEventError
from eventlog.mapper import Recorded, Row
from eventlog.sessions import connect
from eventlog.statements import load_statements
from projections.errors import ProjectionFailedError
from projections.projection import Projection, Rows
from projections.refusals import refused, told

CHUNK_EVENTS = 2000

_SQL = load_statements("projections", "loading.sql")
_TELL_STREAMS = (TurnStarted, TurnSuspended, TurnResumed, TurnEnded)
"""What says whether a turn's chunks are those of the answer that is being given."""

Connection = psycopg.Connection[TupleRow]


class Source(NamedTuple):
    """Where to load from, up to where, and which schema to write `into`.

    None stands for the log's own schema, whose builds have a list of the parts they still need; others are loaded at
    one go. Only that schema is seen by what writes, so that it never finds tables of the same name in the log's.
    """

    conninfo: str
    schema: str
    target: int
    into: str | None = None


class Part(NamedTuple):
    """The conversations from one id up to another, both included."""

    first_id: UUID
    last_id: UUID


def load_part(source: Source, projections: Sequence[Projection], part: Part) -> None:
    """Load one part of some builds, all or nothing; builds that have it already are left alone.

    Raises:
        ProjectionFailedError: a projection cannot take an event.
        BuildFailedError: PostgreSQL refuses the rows.
        psycopg.OperationalError: the database does not answer.
    """
    with _reading(source) as reading, _writing(source) as writing, refused(_named(projections)), writing.transaction():
        needing = [each for each in projections if source.into or _takes(writing, each, part)]
        if needing:
            with closing(_chunks(reading, needing, part, source.target)) as chunks:
                for chunk in chunks:
                    _write(writing, needing, chunk)


def finish(source: Source, projection: Projection) -> None:
    """Give a loaded build its keys and indexes, unless it has them, and PostgreSQL's planner its statistics.

    Raises:
        BuildFailedError: PostgreSQL refuses them.
        psycopg.OperationalError: the database does not answer.
    """
    with _writing(source) as connection, refused(projection.name):
        with connection.transaction():
            if not source.into and not _finishes(connection, source, projection):
                return
            for definition in projection.indexes():
                connection.execute(definition)
        for table in projection.tables:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(projection.table(table))))


def _reading(source: Source) -> AbstractContextManager[Connection]:
    return _connected(source, source.schema)


def _writing(source: Source) -> AbstractContextManager[Connection]:
    return _connected(source, source.into or source.schema)


def _connected(source: Source, schema: str) -> Connection:
    # What is loaded can be loaded again, so no commit waits for the disk.
    return connect(source.conninfo, schema, synchronous_commit="off")


def _named(projections: Sequence[Projection]) -> str:
    return ", ".join(projection.name for projection in projections)


def _takes(connection: Connection, projection: Projection, part: Part) -> bool:
    """Take a part off the list of what a build still needs; return whether it was on it.

    Who takes it at the same time waits here until this one's transaction ends.
    """
    parameters = [projection.name, projection.version, projection.build, part.first_id]
    return connection.execute(_SQL["take_part"], parameters).rowcount == 1


def _finishes(connection: Connection, source: Source, projection: Projection) -> bool:
    """Register a build as loaded up to the target; return False where somebody else has just done so.

    Who finishes it at the same time waits here until this one's transaction ends.
    """
    identity = [projection.name, projection.version, projection.build]
    finishes = connection.execute(_SQL["finish"], identity).rowcount == 1
    if finishes:
        connection.execute(_SQL["set_position"], [source.target, *identity])
    return finishes


def _chunks(
    connection: Connection, projections: Sequence[Projection], part: Part, target: int
) -> Generator[list[Recorded]]:
    """Yield the part's events in conversation order, whole conversations at a time."""
    types = set[type[ConversationEvent]]().union(*(projection.types for projection in projections))
    streams = StreamDelta in types
    if streams:  # which of them count is told by the turns
        types |= {type_ for type_ in EVENT_TYPES.values() if issubclass(type_, _TELL_STREAMS)}
    # Left out by name: a type that this release does not know has to come through, to be refused.
    left_out = sorted(name for name, type_ in EVENT_TYPES.items() if type_ is StreamDelta or type_ not in types)
    chunk: list[Recorded] = []
    with connection.transaction(), connection.cursor("part") as cursor:
        cursor.itersize = CHUNK_EVENTS
        cursor.execute(_SQL["read_part"], [part.first_id, part.last_id, target, left_out])
        for _, rows in groupby(cursor, key=lambda row: row[1]):
            conversation = [_recorded(projections, row) for row in rows]
            chunk += _with_running_turn(connection, projections, conversation, target) if streams else conversation
            if len(chunk) >= CHUNK_EVENTS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _recorded(projections: Sequence[Projection], row: TupleRow) -> Recorded:
    try:
        return Row(*row).recorded()
    except UnknownEventError as error:
        raise ProjectionFailedError(_named(projections), row[0], str(error)) from error


def _with_running_turn(
    connection: Connection, projections: Sequence[Projection], conversation: list[Recorded], target: int
) -> list[Recorded]:
    """Add what the turn that runs at `target`, if one does, has said so far."""
    running, turn_id = None, None
    for item in conversation:
        if isinstance(item.event, TurnStarted | TurnResumed):
            running, turn_id = item, item.event.turn_id
        elif isinstance(item.event, TurnSuspended | TurnEnded) and item.event.turn_id == turn_id:
            running = None
    if running is None:
        return conversation
    rows = connection.execute(_SQL["read_deltas"], [running.event.originator_id, running.position, target])
    return sorted([*conversation, *(_recorded(projections, row) for row in rows)])


def _write(connection: Connection, projections: Sequence[Projection], chunk: list[Recorded]) -> None:
    for projection in projections:
        for table, rows in _rows(projection, chunk).items():
            if rows:
                _copy(connection, projection.table(table), rows)


def _rows(projection: Projection, chunk: list[Recorded]) -> Rows:
    try:
        return _computed(projection, chunk)
    except Exception as error:  # a projection may raise anything
        raise ProjectionFailedError(projection.name, _culprit(projection, chunk), told(error)) from error


def _computed(projection: Projection, chunk: list[Recorded]) -> Rows:
    return projection.rows(projection.wanted(item.event for item in chunk))


def _culprit(projection: Projection, chunk: list[Recorded]) -> int:
    """Return the position of an event that the projection raises at, and not before: it is looked for by halves."""
    taken, refused_at = 0, len(chunk)
    while refused_at - taken > 1:
        upto = (taken + refused_at) // 2
        try:
            _computed(projection, chunk[:upto])
        except Exception:  # noqa: BLE001 - it is what is looked for
            refused_at = upto
        else:
            taken = upto
    return chunk[refused_at - 1].position


def _copy(connection: Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy,
    ):
        for row in rows:
            copy.write_row(row)
