"""Builds: tables of one version of a projection, with a row in the registry."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg import sql

from eventlog.db.connection import Connection
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from projections.projection import Projection, table_name, view_name

_SQL = load_statements("projections", "builds.sql")


class Build(NamedTuple):
    """A row of the registry.

    `state` is building, live (readers see it), kept (it was live, for a rollback) or scratch (made by `verify`).
    `position` is the last event of the log that is in it. `tables` are the names without version and build.
    """

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
        """Return whether this is a build of the version of `projection`."""
        return (self.name, self.version) == (projection.name, projection.version)


async def read_builds(database: Database) -> list[Build]:
    """Return every build.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    return [Build(*row) for row in await database.fetch(_SQL["read_builds"], {"name": None})]


async def find_builds(connection: Connection, name: str) -> list[Build]:
    """Return the builds of a projection in all its versions, oldest first."""
    cursor = await connection.execute(_SQL["read_builds"], {"name": name})
    return [Build(*row) for row in await cursor.fetchall()]


async def find_build(connection: Connection, projection: Projection) -> Build | None:
    """Return the registered build of `projection`, or None."""
    every = await find_builds(connection, projection.name)
    return next((build for build in every if build_key(build) == build_key(projection)), None)


async def find_live(connection: Connection, projection: Projection) -> tuple[Projection, int] | None:
    """Return the projection on its live build, and the position, or None."""
    cursor = await connection.execute(_SQL["find_live"], {"name": projection.name, "version": projection.version})
    row = await cursor.fetchone()
    return (projection.on_build(row[0]), row[1]) if row else None


def find_newest(builds: Sequence[Build], state: str) -> Build | None:
    """Return the newest of `builds` that is in `state`, or None."""
    return max((build for build in builds if build.state == state), key=lambda build: build.build, default=None)


async def create(connection: Connection, projection: Projection, state: str) -> None:
    """Create the tables of a new build, without keys and indexes, and register it."""
    for definition in projection.definitions():
        await connection.execute(definition)
    row = {**build_key(projection), "state": state, "updated_at": datetime.now(UTC), "tables": list(projection.tables)}
    await connection.execute(_SQL["register"], row)


async def create_indexes(connection: Connection, projection: Projection) -> None:
    """Create the keys and indexes of a build's tables."""
    for definition in projection.indexes():
        await connection.execute(definition)


async def set_state(connection: Connection, build: Projection | Build, state: str) -> None:
    """Register a new state of a build."""
    await connection.execute(_SQL["set_state"], {**build_key(build), "state": state, "updated_at": datetime.now(UTC)})


async def record_error(connection: Connection, build: Projection, error: str, position: int | None) -> None:
    """Register the error that stopped a build, and the position of its event."""
    recorded = {"error": error, "position": position, "updated_at": datetime.now(UTC)}
    await connection.execute(_SQL["record_error"], {**build_key(build), **recorded})


async def forget_plan(connection: Connection, build: Projection | Build) -> None:
    """Remove the loading plan of a build."""
    for statement in ("forget_parts", "forget_plan"):
        await connection.execute(_SQL[statement], build_key(build))


async def drop(connection: Connection, build: Projection | Build, *, with_views: bool = False) -> None:
    """Drop the tables of a build, and its row in the registry.

    `with_views` drops the views of its version too.
    """
    for table in build.tables:
        if with_views:
            view = sql.Identifier(view_name(table, build.version))
            await connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
        name = sql.Identifier(table_name(table, build.version, build.build))
        await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    await forget_plan(connection, build)
    await connection.execute(_SQL["unregister"], build_key(build))


def build_key(build: Projection | Build) -> dict[str, Any]:
    """Return the key of a build's row, as statements take it."""
    return {"name": build.name, "version": build.version, "build": build.build}
