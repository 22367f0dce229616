"""Comparing a build with the live build row by row, at one position."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from psycopg import sql

from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements
from projections import builds
from projections.builds import Build
from projections.postgres_errors import translate_build_errors
from projections.projection import Projection, table_name
from projections.rebuild.builder import Builder
from projections.rebuild.catch_up import catch_up, follow, read_position
from projections.rebuild.locks import frozen_live_builds, retry_on_lock_timeout

_SQL = load_statements("projections.rebuild", "comparison.sql")
_QUERIES = ("count", "differing")


class Difference(NamedTuple):
    """A row in which two builds differ.

    In the live build it is missing, unexpected or different: this is the `kind`.
    """

    table: str
    key: dict[str, Any]
    kind: str


class Comparison(NamedTuple):
    """The result of a comparison at a position.

    `rows` is the number of rows compared, `differing` the number of rows that differ, `differences` the first of these
    in each table.
    """

    name: str
    position: int
    rows: int
    differing: int
    differences: list[Difference]


async def compare(builder: Builder, projection: Projection, state: str) -> Comparison | None:
    """Compare a build in `state` with the live build of its version.

    Return None if the version has no live build, or one that an error has stopped before the build's position.

    Raises:
        ProjectionFailedError: the projection raises at an event.
        BuildFailedError: the tables cannot be compared, because their columns were changed.
        BuildInterruptedError: another transaction holds a lock for too long, or the database has gone.
    """
    return await retry_on_lock_timeout(projection, partial(_compare, builder, projection, state))


async def _compare(builder: Builder, projection: Projection, state: str) -> Comparison | None:
    await catch_up(builder, projection, state, partial(_live_position, builder, projection))
    live: Build | None = None
    async with await builder.database.connect() as connection, connection.transaction():
        async with frozen_live_builds(builder.database, projection) as (_, live_builds):
            own = next((each for each in live_builds if each.is_version_of(projection)), None)
            if own:
                await follow(builder, projection, state, own.position)
            if own and await read_position(builder, projection) == own.position:
                await _declare_cursors(connection, own, projection)
                live = own
        # The live build moves on. The cursors still see the rows of the moment when they were declared.
        return await _read_cursors(connection, live, projection.tables) if live else None


async def _live_position(builder: Builder, projection: Projection) -> int:
    live = await builds.find_live(builder.connection, projection)
    return live[1] if live else 0


async def _declare_cursors(connection: Connection, live: Build, built: Projection) -> None:
    for number, table in enumerate(built.tables):
        names = {
            "live": sql.Identifier(table_name(table, live.version, live.build)),
            "built": sql.Identifier(built.table(table)),
            "key": await _key(connection, built.table(table)),
        }
        for query in _QUERIES:
            statement = sql.SQL(_SQL[query]).format(**names)
            declaration = sql.SQL("DECLARE {} CURSOR FOR {}").format(_cursor(query, number), statement)
            with translate_build_errors(built.name):
                await connection.execute(declaration)


async def _read_cursors(connection: Connection, live: Build, tables: Sequence[str]) -> Comparison:
    rows = differing = 0
    differences: list[Difference] = []
    with translate_build_errors(live.name):
        for number, table in enumerate(tables):
            ((count,),) = await _fetch_all(connection, "count", number)
            rows += count
            found = await _fetch_all(connection, "differing", number)
            differing += found[0][0] if found else 0
            differences += [Difference(table, key, kind) for _, key, kind in found]
    return Comparison(live.name, live.position, rows, differing, differences)


async def _key(connection: Connection, table: str) -> sql.Composable:
    cursor = await connection.execute(_SQL["read_key"], {"table": table})
    return sql.SQL(", ").join(sql.Identifier(row[0]) for row in await cursor.fetchall())


def _cursor(query: str, number: int) -> sql.Identifier:
    return sql.Identifier(f"{query}_{number}")


async def _fetch_all(connection: Connection, query: str, number: int) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(sql.SQL("FETCH ALL FROM {}").format(_cursor(query, number)))
    return await cursor.fetchall()
