"""Building: the tables of a build are made, its loading is planned, and workers load it part by part."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from eventlog.db.database import Database
from eventlog.log import Log
from projections import builds
from projections.builds import SQL, Connection
from projections.errors import BuildInterruptedError, RebuildRunningError
from projections.postgres_errors import translate_build_errors, translate_outage
from projections.projection import Projection
from projections.rebuild.loading import Part, Source, index_build, load_part
from projections.rebuild.parts import plan_parts
from projections.rebuild.workers import Workers, open_workers, run_all


class BuildStep(NamedTuple):
    """News of a build: its phase, and how many of the log's first `target` events are in it."""

    projection: str
    phase: str
    position: int
    target: int


Report = Callable[[BuildStep], None]


@dataclass
class _Loading:
    """A build that is being loaded."""

    projection: Projection
    phase: str
    target: int
    parts: list[Part]
    all_parts: int

    def step(self) -> BuildStep:
        loaded = self.target * (self.all_parts - len(self.parts)) // self.all_parts
        return BuildStep(self.projection.name, "loading", loaded, self.target)


class Builder:
    """Builds projections of one log; its connection holds the locks that keep others from building the same."""

    def __init__(self, database: Database, connection: Connection, workers: Workers, report: Report) -> None:
        self.connection = connection
        self.database = database
        self.log = Log(database)
        self.workers = workers
        self.report = report

    async def claim(self, projections: Sequence[Projection]) -> None:
        """Keep everybody else from building these until this builder is closed.

        Raises:
            RebuildRunningError: somebody is at it.
        """
        for projection in projections:
            if not await builds.try_lock(self.connection, builds.rebuild_lock(self.database.schema, projection.name)):
                raise RebuildRunningError(projection.name)

    async def create(self, projection: Projection, state: str) -> Projection:
        """Make the tables of the projection's next build.

        Raises:
            BuildFailedError: PostgreSQL refuses them.
        """
        known = [
            each.build
            for each in await builds.find_builds(self.connection, projection.name)
            if each.is_version_of(projection)
        ]
        build = projection.on_build(max(known, default=0) + 1)
        with translate_build_errors(build.name):
            async with self.connection.transaction():
                await builds.create(self.connection, build, state)
        return build

    async def plan(self, projections: Sequence[Projection], target: int) -> None:
        """Write down up to where builds are to be loaded, and in which parts, unless that was done before."""
        parts = await plan_parts(self.connection, target)
        for projection in projections:
            cursor = await self.connection.execute(SQL["read_plan"], builds.identity(projection))
            if await cursor.fetchone() is None:
                await self._write_plan(projection, target, parts)

    async def load(self, projections: Sequence[Projection]) -> None:
        """Load what planned builds still lack, and index them; those that share parts are loaded together.

        Raises:
            ProjectionFailedError: a projection cannot take an event.
            BuildFailedError: PostgreSQL refuses the rows or the indexes.
            BuildInterruptedError: a worker or the database has gone.
        """
        loading = [await self._resumed(projection) for projection in projections]
        together: dict[tuple[int, Part], list[_Loading]] = {}
        for each in loading:
            for part in each.parts:
                together.setdefault((each.target, part), []).append(each)
        await run_all([self._load_part(target, part, group) for (target, part), group in together.items()])
        await run_all([self._finish(each) for each in loading if each.phase != "following"])

    async def _write_plan(self, projection: Projection, target: int, parts: list[Part]) -> None:
        identity = builds.identity(projection)
        async with self.connection.transaction():
            counted = [target, len(parts), datetime.now(UTC), len(parts)]
            await self.connection.execute(SQL["plan"], [*identity, *counted])
            columns = map(list, zip(*parts, strict=True))
            await self.connection.execute(SQL["plan_parts"], [*identity, *columns])

    async def _resumed(self, projection: Projection) -> _Loading:
        identity = builds.identity(projection)
        cursor = await self.connection.execute(SQL["read_plan"], identity)
        row = await cursor.fetchone()
        if row is None:
            raise BuildInterruptedError(f"The plan of {projection} has gone.")
        cursor = await self.connection.execute(SQL["read_parts"], identity)
        parts = [Part(*found) for found in await cursor.fetchall()]
        await self.connection.execute(SQL["resume"], [datetime.now(UTC), len(parts), *identity])
        return _Loading(projection, row[0], row[1], parts, row[2])

    async def _load_part(self, target: int, part: Part, group: list[_Loading]) -> None:
        source = self.source(target)
        await self.workers.run(partial(load_part, source, [each.projection for each in group], part))
        for each in group:
            each.parts.remove(part)
            self.report(each.step())

    async def _finish(self, loading: _Loading) -> None:
        self.report(BuildStep(loading.projection.name, "indexing", loading.target, loading.target))
        await self.connection.execute(SQL["set_indexing"], builds.identity(loading.projection))
        await self.workers.run(partial(index_build, self.source(loading.target), loading.projection))

    def source(self, target: int) -> Source:
        """Return the log up to `target`, with its own schema to write to."""
        return Source(self.database.conninfo, self.database.schema, target)


@asynccontextmanager
async def open_builder(conninfo: str, schema: str, workers: int, report: Report) -> AsyncGenerator[Builder]:
    """Open what it takes to build: the log, a connection for the locks, and so many worker processes.

    Raises:
        StoreUnavailableError: the database does not answer.
        BuildInterruptedError: the database has gone meanwhile.
    """
    database = Database(conninfo, schema)
    async with AsyncExitStack() as stack:
        stack.enter_context(translate_outage())
        await database.open()
        stack.push_async_callback(database.close)
        connection = await stack.enter_async_context(await database.connect())
        stack.push_async_callback(builds.unlock, connection)
        yield Builder(database, connection, stack.enter_context(open_workers(workers)), report)
