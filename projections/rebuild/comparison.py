"""Comparing two builds row by row, as they were at one moment, while both go on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import sql

from projections.builds import SQL, Build, Connection
from projections.postgres_errors import translate_build_errors
from projections.projection import Projection, table_name


class Difference(NamedTuple):
    """A row that two builds do not share: `kind` is missing, unexpected or different in the build that is read."""

    table: str
    key: dict[str, Any]
    kind: str


class Comparison(NamedTuple):
    """What comparing a projection found: how many rows were compared, how many differ, and the first of those
    in each table."""

    name: str
    position: int
    rows: int
    differing: int
    differences: list[Difference]


class Comparing:
    """A comparison that has been begun: its snapshot is taken, its rows are still to be read."""

    def __init__(self, connection: Connection, live: Build, tables: Sequence[str]) -> None:
        self._connection = connection
        self._live = live
        self._tables = tables

    async def result(self) -> Comparison:
        """Compare.

        Raises:
            BuildFailedError: the tables cannot be compared, because somebody has changed their columns.
        """
        with translate_build_errors(self._live.name):
            return await self._result()

    async def _result(self) -> Comparison:
        rows = 0
        differences: list[Difference] = []
        differing = 0
        for number, table in enumerate(self._tables):
            cursor = await self._connection.execute(_fetch("count", number))
            counted = await cursor.fetchone()
            rows += counted[0] if counted else 0
            cursor = await self._connection.execute(_fetch("differing", number))
            found = await cursor.fetchall()
            differing += found[0][0] if found else 0
            differences += [Difference(table, key, kind) for _, key, kind in found]
        return Comparison(self._live.name, self._live.position, rows, differing, differences)


async def begin(connection: Connection, live: Build, truth: Projection) -> Comparing:
    """Take the snapshots of what is read and of what should be; the connection's transaction keeps them.

    A cursor sees what was there when it was declared.
    """
    for number, table in enumerate(truth.tables):
        names = {
            "live": sql.Identifier(table_name(table, live.version, live.build)),
            "truth": sql.Identifier(truth.table(table)),
            "key": await _key(connection, truth.table(table)),
        }
        for what in ("count", "differing"):
            query = sql.SQL(SQL[f"compare_{what}"]).format(**names)
            cursor = sql.SQL("DECLARE {} CURSOR FOR {}").format(_cursor(what, number), query)
            with translate_build_errors(truth.name):
                await connection.execute(cursor)
    return Comparing(connection, live, truth.tables)


async def _key(connection: Connection, table: str) -> sql.Composable:
    cursor = await connection.execute(SQL["read_key"], [table])
    return sql.SQL(", ").join(sql.Identifier(row[0]) for row in await cursor.fetchall())


def _cursor(what: str, number: int) -> sql.Identifier:
    return sql.Identifier(f"{what}_{number}")


def _fetch(what: str, number: int) -> sql.Composed:
    return sql.SQL("FETCH ALL FROM {}").format(_cursor(what, number))
