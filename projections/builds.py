"""Builds: the tables of a version of a projection, made, switched and dropped; a registry row tells what each is."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple, cast

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.rows import TupleRow

from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from projections.errors import ViewInUseError
from projections.projection import Projection, table_name, view_name

Connection = AsyncConnection[TupleRow]

SQL = load_statements("projections", "builds.sql")
_ALL = sql.SQL("*")


class Build(NamedTuple):
    """A build: `state` is building, live, kept or scratch; `position` up to where it has read the log."""

    name: str
    version: int
    build: int
    state: str
    position: int
    error: str | None
    error_position: int | None
    updated_at: datetime
    tables: list[str]

    def is_version_of(self, projection: Projection) -> bool:
        """Return whether this is a build of the version that `projection` is."""
        return (self.name, self.version) == (projection.name, projection.version)


async def read_builds(database: Database) -> list[Build]:
    """Return every build there is.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    return [Build(*row) for row in await database.fetch(SQL["read_builds"])]


async def find_builds(connection: Connection, name: str) -> list[Build]:
    """Return the builds of a projection, oldest first."""
    cursor = await connection.execute(SQL["read_builds"])
    return [Build(*row) for row in await cursor.fetchall() if row[0] == name]


async def find_live(connection: Connection, projection: Projection) -> tuple[Projection, int] | None:
    """Return the projection on the build of its version that is read, and its position; None before there is one."""
    cursor = await connection.execute(SQL["find_live"], [projection.name, projection.version])
    row = await cursor.fetchone()
    return (projection.on_build(row[0]), row[1]) if row else None


async def create(connection: Connection, projection: Projection, state: str) -> None:
    """Make the tables of a new build, without keys and indexes, and register it."""
    for definition in projection.definitions():
        await connection.execute(definition)
    parameters = [*identity(projection), state, datetime.now(UTC), list(projection.tables)]
    await connection.execute(SQL["register"], parameters)


async def create_indexes(connection: Connection, projection: Projection) -> None:
    """Give the tables of a build their keys and indexes."""
    for definition in projection.indexes():
        await connection.execute(definition)


async def set_state(connection: Connection, build: Projection | Build, state: str) -> None:
    """Register what a build is from now on."""
    await connection.execute(SQL["set_state"], [state, datetime.now(UTC), *identity(build)])


async def record_error(connection: Connection, build: Projection, error: str, position: int | None) -> None:
    """Register what stopped a build, and at which event if an event did."""
    await connection.execute(SQL["record_error"], [error, position, datetime.now(UTC), *identity(build)])


async def drop(connection: Connection, build: Projection | Build, *, with_views: bool = False) -> None:
    """Remove a build: its tables and that it ever was, and the views of its version if nobody reads that any more."""
    for table in build.tables:
        if with_views:
            view = sql.Identifier(view_name(table, build.version))
            await connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
        name = sql.Identifier(table_name(table, build.version, build.build))
        await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    for statement in ("forget_parts", "forget_plan", "unregister"):
        await connection.execute(SQL[statement], identity(build))


async def show_build(connection: Connection, projection: Projection, *, newest: bool = True) -> None:
    """Let readers of the projection's version see this build from now on, and bare names mean the newest version.

    Raises:
        ViewInUseError: a view of somebody's own depends on one that has to change its columns.
    """
    for table in projection.tables:
        view = view_name(table, projection.version)
        await _define_view(connection, view, projection.table(table))
        if newest:
            await _define_view(connection, table, view)


async def show_older_version(connection: Connection, projection: Projection, older: int | None) -> None:
    """Let readers of a version that is not built yet see what an older one has: what only the new one has is NULL."""
    for table in projection.tables:
        built = projection.table(table)
        columns = await _columns(connection, built)
        source = built if older is None else view_name(table, older)
        known = set(await _columns(connection, source))
        if not known:
            source, known = built, set(columns)
        selected = [_selected(*column, known=column in known) for column in columns]
        await _define_view(connection, view_name(table, projection.version), source, sql.SQL(", ").join(selected))


async def head(connection: Connection) -> int:
    """Return the position of the log's last event, 0 for an empty log."""
    cursor = await connection.execute(SQL["read_head"])
    row = await cursor.fetchone()
    return row[0] if row else 0


async def try_lock(connection: Connection, lock: str) -> bool:
    """Take an advisory lock until the connection closes; return whether it was free."""
    cursor = await connection.execute(SQL["try_lock"], [lock])
    row = await cursor.fetchone()
    return bool(row and row[0])


async def is_locked(connection: Connection, lock: str) -> bool:
    """Return whether any connection holds an advisory lock."""
    cursor = await connection.execute(SQL["is_locked"], [lock])
    row = await cursor.fetchone()
    return bool(row and row[0])


async def exists(connection: Connection, name: str) -> bool:
    """Return whether there is a table or a view of this name."""
    cursor = await connection.execute(SQL["view_exists"], [name])
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _columns(connection: Connection, table: str) -> list[tuple[str, str]]:
    cursor = await connection.execute(SQL["read_columns"], [table])
    return [(row[0], row[1]) for row in await cursor.fetchall()]


def _selected(name: str, type_: str, *, known: bool) -> sql.Composable:
    if known:
        return sql.Identifier(name)
    # PostgreSQL itself has written the type's name, so it is as trustworthy as a literal.
    return sql.SQL("NULL::{} AS {}").format(sql.SQL(cast(LiteralString, type_)), sql.Identifier(name))


async def _define_view(connection: Connection, view: str, source: str, columns: sql.Composable = _ALL) -> None:
    names = (sql.Identifier(view), columns, sql.Identifier(source))
    create_view = sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(*names)
    try:
        async with connection.transaction():
            await connection.execute(create_view)
    except errors.InvalidTableDefinition:
        try:
            await connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(view)))
        except errors.DependentObjectsStillExist as error:
            raise ViewInUseError(view) from error
        await connection.execute(create_view)


def identity(build: Projection | Build) -> list[Any]:
    """Return name, version and build, as statements take them."""
    return [build.name, build.version, build.build]


async def unlock(connection: Connection) -> None:
    """Give up the connection's locks now; PostgreSQL would do so a moment after it was closed."""
    with suppress(psycopg.Error):  # one that is broken has lost them
        await connection.execute(SQL["unlock"])


def rebuild_lock(schema: str, name: str) -> str:
    """Return the advisory lock of whoever builds, verifies or switches a projection of a log."""
    return f"{schema}:{name}:rebuild"


def starting_lock(schema: str, name: str) -> str:
    """Return the advisory lock of the server that starts a rebuild's process, until that has claimed the build."""
    return f"{schema}:{name}:starting"


def find_newest(builds: Sequence[Build], state: str) -> Build | None:
    """Return the newest of these builds that is in a state."""
    return max((build for build in builds if build.state == state), key=lambda build: build.build, default=None)
