"""The catalog of all projections, and the installation of their tables."""

import asyncio
from collections.abc import Sequence

from eventlog.db.connection import Connection
from eventlog.db.database import Database
from eventlog.log import read_head
from eventlog.migrations import migrate
from projections import advisory_locks, builds, live_views
from projections.errors import UnknownProjectionError
from projections.models.agent_listing import AgentsProjection
from projections.models.context import ContextProjection
from projections.models.history import HistoryProjection
from projections.models.listing import ListingProjection
from projections.models.usage import UsageProjection
from projections.models.waits import WaitsProjection
from projections.projection import Projection, view_name

PROJECTIONS: tuple[Projection, ...] = (
    ListingProjection(),
    HistoryProjection(),
    ContextProjection(),
    UsageProjection(),
    AgentsProjection(),
    WaitsProjection(),
)


def find_projection(name: str, projections: Sequence[Projection] = PROJECTIONS) -> Projection:
    """Return the projection of this name.

    Raises:
        UnknownProjectionError: there is none.
    """
    for projection in projections:
        if projection.name == name:
            return projection
    raise UnknownProjectionError(name, [projection.name for projection in projections])


def prepare(conninfo: str, schema: str) -> None:
    """Migrate the log's schema and install the projections.

    Several processes may call this at once.

    Raises:
        UnusableDatabaseError: the database cannot hold a log, or is read-only with an older log.
        StoreUnavailableError: the database does not answer the installation.
        psycopg.Error: PostgreSQL refuses a statement of a migration or does not answer it.
    """
    migrate(conninfo, schema)
    install(conninfo, schema)


def install(conninfo: str, schema: str = "turnlog", projections: Sequence[Projection] = PROJECTIONS) -> None:
    """Create the tables of every projection version that has none.

    The log's own schema has to exist. On an empty log the new tables are live at once. On a log with events a rebuild
    has to fill them first. Until then the views of the new version show an older one. Several processes may call this
    at once.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    asyncio.run(_install(conninfo, schema, projections))


async def _install(conninfo: str, schema: str, projections: Sequence[Projection]) -> None:
    async with await Database(conninfo, schema).connect() as connection:
        await advisory_locks.wait_for_lock(connection, advisory_locks.install_lock(schema))
        for projection in projections:
            async with connection.transaction():
                await install_one(connection, projection)


async def install_one(connection: Connection, projection: Projection) -> None:
    """Create the tables and views that a projection's version lacks."""
    every = await builds.find_builds(connection, projection.name)
    own = [build for build in every if build.is_version_of(projection)]
    if not own:
        await _create_first(connection, projection, every)
        return
    live, view = builds.find_newest(own, "live"), view_name(projection.tables[0], projection.version)
    if live and not await live_views.exists(connection, view):
        await live_views.show_build(connection, projection.on_build(live.build))


async def _create_first(connection: Connection, projection: Projection, every: Sequence[builds.Build]) -> None:
    if await read_head(connection) == 0:
        await builds.create(connection, projection, "live")
        await builds.create_indexes(connection, projection)
        await live_views.show_build(connection, projection)
    else:
        await builds.create(connection, projection, "building")
        older = [build.version for build in every if build.state == "live" and build.version < projection.version]
        await live_views.show_older_version(connection, projection, max(older, default=None))
