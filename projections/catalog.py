"""Which projections there are, and the installing of their tables."""

import asyncio
from collections.abc import Sequence

from eventlog.db.database import Database
from eventlog.migrations import migrate
from projections import builds
from projections.builds import Connection
from projections.errors import UnknownProjectionError
from projections.models.context import ContextProjection
from projections.models.history import HistoryProjection
from projections.models.listing import ListingProjection
from projections.models.usage import UsageProjection
from projections.projection import Projection, view_name

PROJECTIONS: tuple[Projection, ...] = (ListingProjection(), HistoryProjection(), ContextProjection(), UsageProjection())


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
    """Bring the log's schema and the projections' tables up to date; many processes may do so at once."""
    migrate(conninfo, schema)
    install(conninfo, schema)


def install(conninfo: str, schema: str = "turnlog", projections: Sequence[Projection] = PROJECTIONS) -> None:
    """Make the tables of every projection whose version has none yet.

    On an empty log they are live at once. Where the log has events, a rebuild has to fill them first; until then
    readers of the new version see what an older one has. Any number of processes may call this at once; the log's own
    schema must be there.
    """
    asyncio.run(_install(conninfo, schema, projections))


async def _install(conninfo: str, schema: str, projections: Sequence[Projection]) -> None:
    async with await Database(conninfo, schema).connect() as connection:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"{schema}:projections"])
        for projection in projections:
            async with connection.transaction():
                await install_one(connection, projection)


async def install_one(connection: Connection, projection: Projection) -> None:
    """Make the tables of a projection's version if it has none yet, and its views if they are missing."""
    known = await builds.find_builds(connection, projection.name)
    own = [build for build in known if build.is_version_of(projection)]
    if not own:
        await _create_first(connection, projection, known)
        return
    live, view = builds.find_newest(own, "live"), view_name(projection.tables[0], projection.version)
    if live and not await builds.exists(connection, view):
        await builds.show_build(connection, projection.on_build(live.build))


async def _create_first(connection: Connection, projection: Projection, known: Sequence[builds.Build]) -> None:
    if await builds.head(connection) == 0:
        await builds.create(connection, projection, "live")
        await builds.create_indexes(connection, projection)
        await builds.show_build(connection, projection)
    else:
        await builds.create(connection, projection, "building")
        older = [build.version for build in known if build.state == "live" and build.version < projection.version]
        await builds.show_older_version(connection, projection, max(older, default=None))
