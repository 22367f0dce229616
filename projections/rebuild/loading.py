"""Loading parts of a build with COPY, in workers."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

from psycopg import sql

from eventlog.db.sessions import connect
from eventlog.db.statements import load_statements
from eventlog.mapper import Recorded
from projections.builds import build_key
from projections.errors import ProjectionFailedError
from projections.postgres_errors import describe_error, translate_build_errors
from projections.projection import Projection, Rows
from projections.rebuild.part_events import SyncConnection, read_chunks
from projections.rebuild.plan import Part

_SQL = load_statements("projections.rebuild", "loading.sql")


class Source(NamedTuple):
    """The log to load, up to position `target`, and the schema to write `into`.

    None is the log's own schema, whose builds have a plan with parts. A build in another schema has none and is loaded
    in one go.
    """

    conninfo: str
    schema: str
    target: int
    into: str | None = None


def load_part(source: Source, projections: Sequence[Projection], part: Part) -> None:
    """Load one part of some builds, all or nothing.

    Builds that have the part already do not change.

    Raises:
        ProjectionFailedError: a projection raises at an event.
        BuildFailedError: PostgreSQL refuses the rows.
        psycopg.OperationalError: the database does not answer.
    """
    names = ", ".join(projection.name for projection in projections)
    with (
        _connect(source, source.schema) as reading,
        # The connection sees no other schema, so that it never finds tables of the same name in the log's.
        _connect(source, source.into or source.schema) as writing,
        translate_build_errors(names),
        writing.transaction(),
    ):
        lacking = [each for each in projections if source.into or _take_part(writing, each, part)]
        if lacking:
            with closing(read_chunks(reading, lacking, part, source.target)) as chunks:
                for chunk in chunks:
                    _write(writing, lacking, chunk)


def index_build(source: Source, projection: Projection) -> None:
    """Create the keys and indexes of a loaded build, and analyse its tables.

    A build that has them already does not change.

    Raises:
        BuildFailedError: PostgreSQL refuses them.
        psycopg.OperationalError: the database does not answer.
    """
    with _connect(source, source.into or source.schema) as connection, translate_build_errors(projection.name):
        with connection.transaction():
            if not source.into and not _mark_loaded(connection, source, projection):
                return
            for definition in projection.indexes():
                connection.execute(definition)
        for table in projection.tables:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(projection.table(table))))


def _connect(source: Source, schema: str) -> SyncConnection:
    # Lost rows can be loaded again, so no commit waits for the disk.
    return connect(source.conninfo, schema, synchronous_commit="off")


def _take_part(connection: SyncConnection, projection: Projection, part: Part) -> bool:
    """Return whether a build lacks a part, and remove it from those it lacks.

    Another worker that takes the same part waits until this transaction ends.
    """
    parameters = {**build_key(projection), "first_id": part.first_id}
    return connection.execute(_SQL["take_part"], parameters).rowcount == 1


def _mark_loaded(connection: SyncConnection, source: Source, projection: Projection) -> bool:
    """Register a build as loaded up to the target, and return whether it was not yet.

    Another worker that registers the same build waits until this transaction ends.
    """
    key = build_key(projection)
    first = connection.execute(_SQL["set_following"], key).rowcount == 1
    if first:
        connection.execute(_SQL["set_position"], {**key, "target": source.target})
    return first


def _write(connection: SyncConnection, projections: Sequence[Projection], chunk: list[Recorded]) -> None:
    for projection in projections:
        for table, rows in _rows(projection, chunk).items():
            if rows:
                _copy(connection, projection.table(table), rows)


def _rows(projection: Projection, chunk: list[Recorded]) -> Rows:
    try:
        return _compute_rows(projection, chunk)
    except Exception as error:  # a projection may raise anything
        position = _find_failing_position(projection, chunk)
        raise ProjectionFailedError(projection.name, position, describe_error(error)) from error


def _compute_rows(projection: Projection, chunk: list[Recorded]) -> Rows:
    return projection.rows(projection.select(item.event for item in chunk))


def _find_failing_position(projection: Projection, chunk: list[Recorded]) -> int:
    """Return the position of the event at which the projection raises.

    It is found by bisection.
    """
    succeeds, fails = 0, len(chunk)
    while fails - succeeds > 1:
        middle = (succeeds + fails) // 2
        try:
            _compute_rows(projection, chunk[:middle])
        except Exception:  # noqa: BLE001 - the error that is searched for
            fails = middle
        else:
            succeeds = middle
    return chunk[fails - 1].position


def _copy(connection: SyncConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy,
    ):
        for row in rows:
            copy.write_row(row)
