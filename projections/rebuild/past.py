"""Time travel: all read models at a past position, in their own schema."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from psycopg import sql

from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements
from eventlog.log import AsOf
from projections.advisory_locks import try_lock
from projections.errors import NothingRecordedError, NotYetRecordedError, RebuildRunningError, SchemaExistsError
from projections.live_views import show_build
from projections.postgres_errors import translate_build_errors
from projections.projection import Projection
from projections.rebuild.builder import Builder, BuildStep
from projections.rebuild.loading import Source, index_build, load_part
from projections.rebuild.plan import Part, cut_into_parts
from projections.rebuild.workers import run_all

_SQL = load_statements("projections.rebuild", "past.sql")
_UNFINISHED = "_unfinished"
_NOTE = "Turnlog builds its read models here as they were at position"
_DONE = "Turnlog's read models as they were at position"


class PastReadModel(NamedTuple):
    """Read models of the past: schema, position and the names of their tables."""

    schema: str
    position: int
    names: list[str]


async def build_past(builder: Builder, projections: Sequence[Projection], as_of: AsOf, schema: str) -> PastReadModel:
    """Build `projections` in a new schema as they were at a position or time.

    A time means the last event that was recorded at or before it. A run that fails or is killed leaves no schema of
    this name.

    Raises:
        NothingRecordedError: the log has nothing up to then.
        NotYetRecordedError: the position is beyond the log's head, or the time is in the future.
        SchemaExistsError: there is a schema of this name.
        RebuildRunningError: another process builds it.
        ProjectionFailedError: a projection raises at an event.
        BuildFailedError: PostgreSQL refuses something.
        BuildInterruptedError: the database or a worker has gone.
    """
    connection = builder.connection
    position = await _position(builder, as_of)
    unfinished = f"{schema}{_UNFINISHED}"
    if not await try_lock(connection, f"{unfinished}:build"):
        raise RebuildRunningError(f"schema {schema}")
    if await _schema_exists(connection, schema):
        raise SchemaExistsError(schema)
    await _drop_unfinished(connection, unfinished)
    try:
        with translate_build_errors(f"schema {schema}"):
            await _fill(builder, projections, unfinished, position)
            rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(schema))
            await connection.execute(rename)
        await _comment(connection, schema, f"{_DONE} {position} of the log.")
    finally:
        await _drop_unfinished(connection, unfinished)
    return PastReadModel(schema, position, [table for projection in projections for table in projection.tables])


async def _position(builder: Builder, as_of: AsOf) -> int:
    head = await builder.log.head()
    # The end of the log is an event, and a position needs only its head.
    if as_of > head if isinstance(as_of, int) else (await builder.log.end()).at < as_of:
        raise NotYetRecordedError(str(as_of), head)
    position = await builder.log.position_of(as_of)
    if position < 1:
        raise NothingRecordedError(str(as_of))
    return position


async def _schema_exists(connection: Connection, schema: str) -> bool:
    cursor = await connection.execute(_SQL["schema_exists"], {"schema": schema})
    return await cursor.fetchone() is not None


async def _drop_unfinished(connection: Connection, unfinished: str) -> None:
    """Drop the schema that an earlier run has left.

    Raises:
        SchemaExistsError: the schema of this name is not Turnlog's.
    """
    cursor = await connection.execute(_SQL["read_comment"], {"schema": unfinished})
    found = await cursor.fetchone()
    if found and not str(found[0]).startswith(_NOTE):
        raise SchemaExistsError(unfinished)
    await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(unfinished)))


async def _comment(connection: Connection, schema: str, text: str) -> None:
    comment = sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(text))
    await connection.execute(comment)


async def _fill(builder: Builder, projections: Sequence[Projection], schema: str, position: int) -> None:
    async with await builder.database.connect() as connection:
        async with connection.transaction():
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            await _comment(connection, schema, f"{_NOTE} {position} of the log.")
        await connection.execute(_SQL["set_search_path"], {"schema": schema})
        for projection in projections:
            for definition in projection.definitions():
                await connection.execute(definition)
        source = Source(builder.database.conninfo, builder.database.schema, position, into=schema)
        parts = await cut_into_parts(builder.connection, position)
        remaining = list(parts)
        await run_all([_load(builder, source, projections, part, remaining, len(parts)) for part in parts])
        await run_all([builder.workers.run(partial(index_build, source, projection)) for projection in projections])
        for projection in projections:
            await show_build(connection, projection)


async def _load(
    builder: Builder, source: Source, projections: Sequence[Projection], part: Part, remaining: list[Part], parts: int
) -> None:
    await builder.workers.run(partial(load_part, source, projections, part))
    remaining.remove(part)
    builder.report(BuildStep("all", "loading", source.target * (parts - len(remaining)) // parts, source.target))
