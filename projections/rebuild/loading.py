"""Loading parts of a build: whole conversations read from the log, their rows written with COPY; run by workers."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from itertools import groupby
from operator import attrgetter
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
from eventlog.db.sessions import connect
from eventlog.db.statements import load_statements
from eventlog.mapper import Recorded, Row
from projections.errors import ProjectionFailedError
from projections.postgres_errors import describe_error, translate_build_errors
from projections.projection import Projection, Rows

CHUNK_EVENTS = 2000

_SQL = load_statements("projections.rebuild", "loading.sql")
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
    with (
        _reading(source) as reading,
        _writing(source) as writing,
        translate_build_errors(_named(projections)),
        writing.transaction(),
    ):
        needing = [each for each in projections if source.into or _takes(writing, each, part)]
        if needing:
            with closing(_chunks(reading, needing, part, source.target)) as chunks:
                for chunk in chunks:
                    _write(writing, needing, chunk)


def index_build(source: Source, projection: Projection) -> None:
    """Give a loaded build its keys and indexes, unless it has them, and PostgreSQL's planner its statistics.

    Raises:
        BuildFailedError: PostgreSQL refuses them.
        psycopg.OperationalError: the database does not answer.
    """
    with _writing(source) as connection, translate_build_errors(projection.name):
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
    names = sorted(type_.TOPIC for type_ in types - {StreamDelta})
    chunk: list[Recorded] = []
    with connection.transaction(), connection.cursor("part") as cursor:
        cursor.itersize = CHUNK_EVENTS
        cursor.execute(_SQL["read_part"], [part.first_id, part.last_id, target, names])
        for _, rows in groupby(cursor, key=lambda row: row[1]):
            conversation = [Row(*row).recorded() for row in rows]
            chunk += _with_running_turn(connection, conversation, target) if streams else conversation
            if len(chunk) >= CHUNK_EVENTS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _with_running_turn(connection: Connection, conversation: list[Recorded], target: int) -> list[Recorded]:
    """Add what the turn that runs at `target`, if one does, has said so far.

    More than one runs where a newer release has ended turns with an event that is unknown here.
    """
    running: dict[UUID, Recorded] = {}
    for item in conversation:
        if isinstance(item.event, TurnStarted | TurnResumed):
            running[item.event.turn_id] = item
        elif isinstance(item.event, TurnSuspended | TurnEnded):
            running.pop(item.event.turn_id, None)
    if not running:
        return conversation
    first = min(item.position for item in running.values())
    rows = connection.execute(_SQL["read_deltas"], [conversation[0].event.originator_id, first, target])
    deltas = (Row(*row).recorded() for row in rows)
    return sorted([*conversation, *(item for item in deltas if _is_of(running, item))], key=attrgetter("position"))


def _is_of(running: dict[UUID, Recorded], delta: Recorded) -> bool:
    """Return whether a delta belongs to the answer that one of these turns is giving; an unreadable one may."""
    if not isinstance(delta.event, StreamDelta):
        return True
    begun = running.get(delta.event.turn_id)
    return begun is not None and delta.position > begun.position


def _write(connection: Connection, projections: Sequence[Projection], chunk: list[Recorded]) -> None:
    for projection in projections:
        for table, rows in _rows(projection, chunk).items():
            if rows:
                _copy(connection, projection.table(table), rows)


def _rows(projection: Projection, chunk: list[Recorded]) -> Rows:
    try:
        return _computed(projection, chunk)
    except Exception as error:  # a projection may raise anything
        raise ProjectionFailedError(projection.name, _culprit(projection, chunk), describe_error(error)) from error


def _computed(projection: Projection, chunk: list[Recorded]) -> Rows:
    return projection.rows(projection.select(item.event for item in chunk))


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
