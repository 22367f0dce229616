"""The builder creates, plans and loads builds, part by part in workers."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

from eventlog.db.connection import Connection
from eventlog.db.database import Database
from eventlog.log import Log
from projections import builds
from projections.advisory_locks import rebuild_lock, try_lock, unlock_all
from projections.errors import RebuildRunningError
from projections.postgres_errors import translate_build_errors, translate_outage
from projections.projection import Projection
from projections.rebuild.loading import Source, index_build, load_part
from projections.rebuild.plan import Part, Plan, cut_into_parts, is_planned, resume_plan, set_indexing, write_plan
from projections.rebuild.workers import Workers, open_workers, run_all


class BuildStep(NamedTuple):
    """The progress of a build: `position` of `target` events are in it."""

    projection: str
    phase: str
    position: int
    target: int


Report = Callable[[BuildStep], None]


class Builder:
    """Builds projections of one log.

    Its connection holds the locks that keep other processes from building them.
    """

    def __init__(self, database: Database, connection: Connection, workers: Workers, report: Report) -> None:
        self.connection = connection
        self.database = database
        self.log = Log(database)
        self.workers = workers
        self.report = report

    async def claim(self, projections: Sequence[Projection]) -> None:
        """Keep other processes from building `projections` until this is closed.

        Raises:
            RebuildRunningError: another process builds one of them.
        """
        for projection in projections:
            if not await try_lock(self.connection, rebuild_lock(self.database.schema, projection.name)):
                raise RebuildRunningError(projection.name)

    async def create(self, projection: Projection, state: str) -> Projection:
        """Create the tables of the projection's next build.

        Raises:
            BuildFailedError: PostgreSQL refuses them.
        """
        every = await builds.find_builds(self.connection, projection.name)
        numbers = [each.build for each in every if each.is_version_of(projection)]
        build = projection.on_build(max(numbers, default=0) + 1)
        with translate_build_errors(build.name):
            async with self.connection.transaction():
                await builds.create(self.connection, build, state)
        return build

    async def plan(self, projections: Sequence[Projection], target: int) -> None:
        """Plan to load builds with the log up to `target`, except those that have a plan."""
        parts = await cut_into_parts(self.connection, target)
        for projection in projections:
            if not await is_planned(self.connection, projection):
                await write_plan(self.connection, projection, target, parts)

    async def load(self, projections: Sequence[Projection]) -> None:
        """Load the parts that planned builds still lack, and index them.

        Builds that lack the same parts are loaded together.

        Raises:
            ProjectionFailedError: a projection raises at an event.
            BuildFailedError: PostgreSQL refuses the rows or the indexes.
            BuildInterruptedError: a worker or the database has gone.
        """
        plans = {projection: await resume_plan(self.connection, projection) for projection in projections}
        shared: dict[tuple[int, Part], list[Projection]] = {}
        for projection, plan in plans.items():
            for part in plan.parts:
                shared.setdefault((plan.target, part), []).append(projection)
        await run_all([self._load_part(target, part, group, plans) for (target, part), group in shared.items()])
        await run_all([self._index(each, plan.target) for each, plan in plans.items() if plan.phase != "following"])

    async def _load_part(
        self, target: int, part: Part, projections: list[Projection], plans: dict[Projection, Plan]
    ) -> None:
        await self.workers.run(partial(load_part, self.source(target), projections, part))
        for projection in projections:
            plan = plans[projection]
            plan.parts.remove(part)
            loaded = target * (plan.all_parts - len(plan.parts)) // plan.all_parts
            self.report(BuildStep(projection.name, "loading", loaded, target))

    async def _index(self, projection: Projection, target: int) -> None:
        self.report(BuildStep(projection.name, "indexing", target, target))
        await set_indexing(self.connection, projection)
        await self.workers.run(partial(index_build, self.source(target), projection))

    def source(self, target: int) -> Source:
        """Return the log up to `target`, with its own schema to write to."""
        return Source(self.database.conninfo, self.database.schema, target)


@asynccontextmanager
async def open_builder(conninfo: str, schema: str, workers: int, report: Report) -> AsyncGenerator[Builder]:
    """Open a builder with up to `workers` processes.

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
        stack.push_async_callback(unlock_all, connection)
        yield Builder(database, connection, stack.enter_context(open_workers(workers)), report)
