"""Building: a build is loaded by worker processes, then follows the log until it is level with what is read."""

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

import psycopg
from psycopg import errors

from eventlog.database import Database
from eventlog.errors import UnknownEventError
from eventlog.log import Log
from eventlog.mapper import Recorded
from projections import builds
from projections.applying import PositionLostError, apply
from projections.builds import SQL, Build, Connection
from projections.errors import BuildFailedError, BuildInterruptedError, ProjectionFailedError, RebuildRunningError
from projections.loading import Part, Source, end_with_parent, finish, load_part
from projections.parts import plan_parts
from projections.projection import Projection
from projections.refusals import first_line, interrupted, is_exhausted, passes, refused, told

BATCH_EVENTS = 500
LEVEL_EVENTS = 500
LOCK_ATTEMPTS = 120
LOCK_PAUSE_S = 0.3

T = TypeVar("T")


class Step(NamedTuple):
    """News of a build: its phase, and how many of the log's first `target` events are in it."""

    projection: str
    phase: str
    position: int
    target: int


Report = Callable[[Step], None]


@dataclass
class _Loading:
    """A build that is being loaded."""

    projection: Projection
    phase: str
    target: int
    parts: list[Part]
    all_parts: int

    def step(self) -> Step:
        loaded = self.target * (self.all_parts - len(self.parts)) // self.all_parts
        return Step(self.projection.name, "loading", loaded, self.target)


class Builder:
    """Builds projections of one log; its connection holds the locks that keep others from building the same."""

    def __init__(
        self, database: Database, connection: Connection, pool: Executor, workers: int, report: Report
    ) -> None:
        self.connection = connection
        self.database = database
        self._log = Log(database)
        self._pool = pool
        # One more job than workers waits in the pool; the others wait here, where they can be given up.
        self._room = asyncio.Semaphore(workers + 1)
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
        known = [each.build for each in await builds.builds_of(self.connection, projection.name) if each.of(projection)]
        build = projection.at(max(known, default=0) + 1)
        with refused(build.name):
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

    async def follow(self, projection: Projection, state: str, upto: int) -> None:
        """Apply the log to a build up to a position; one that is further on already stays where it is.

        Raises:
            ProjectionFailedError: the projection cannot take an event.
        """
        position = await self.position(projection)
        while position < upto:
            batch = await self._read(projection, position, min(BATCH_EVENTS, upto - position))
            await self._apply(projection, state, position, batch)
            position = batch[-1].position
            self.report(Step(projection.name, "following", position, max(upto, position)))

    async def follow_until_level(
        self, projection: Projection, state: str, goal: Callable[[Connection], Awaitable[int]]
    ) -> None:
        """Apply the log to a build until little is left up to a goal that moves."""
        while (upto := await goal(self.connection)) - await self.position(projection) > LEVEL_EVENTS:
            await self.follow(projection, state, upto)

    @asynccontextmanager
    async def standstill(self, projection: Projection) -> AsyncGenerator[tuple[Connection, list[Build]]]:
        """Let what is read of a projection, in any version, stand still for the few milliseconds of the block.

        Yields the connection whose transaction holds it, and the builds that are read.
        """
        async with await self.database.connect() as holder, holder.transaction():
            await holder.execute(SQL["limit_lock_wait"])
            cursor = await holder.execute(SQL["lock_live"], [projection.name])
            yield holder, [Build(*row) for row in await cursor.fetchall()]

    async def patiently(self, projection: Projection, work: Callable[[], Awaitable[T]]) -> T:
        """Do what needs locks; as long as somebody holds one of them, let all others go on and try again.

        Raises:
            BuildInterruptedError: it is held for too long.
        """
        for _ in range(LOCK_ATTEMPTS):
            try:
                return await work()
            except (errors.LockNotAvailable, errors.DeadlockDetected):
                await asyncio.sleep(LOCK_PAUSE_S)
        raise BuildInterruptedError(f"Somebody holds a lock on what is read of {projection.name}; try again later.")

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
        await self.work(partial(load_part, source, [each.projection for each in group], part))
        for each in group:
            each.parts.remove(part)
            self.report(each.step())

    async def _finish(self, loading: _Loading) -> None:
        self.report(Step(loading.projection.name, "indexing", loading.target, loading.target))
        await self.connection.execute(SQL["set_indexing"], builds.identity(loading.projection))
        await self.work(partial(finish, self.source(loading.target), loading.projection))

    def source(self, target: int) -> Source:
        """Return the log up to `target`, with its own schema to write to."""
        return Source(self.database.conninfo, self.database.schema, target)

    async def work(self, job: Callable[[], None]) -> None:
        """Let a worker process do a job.

        Raises:
            BuildInterruptedError: the worker or the database has gone.
        """
        try:
            async with self._room:
                begun = asyncio.wrap_future(self._submit(job))
                try:
                    await asyncio.wait([begun])
                finally:
                    # Also who gives up waits: nobody may drop tables that a worker writes to.
                    await asyncio.wait([begun])
                    error = begun.exception()
                if error:
                    raise error
        except (BrokenProcessPool, psycopg.OperationalError) as error:
            raise BuildInterruptedError(f"The build was interrupted: {first_line(error)}.") from error

    def _submit(self, job: Callable[[], None]) -> Future[None]:
        """Hand a job on; a worker that starts for it never hears of a Ctrl-C, not even while it is starting."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(job)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    async def position(self, projection: Projection) -> int:
        """Return up to where a build has read the log."""
        known = await builds.builds_of(self.connection, projection.name)
        return next(each.position for each in known if builds.identity(each) == builds.identity(projection))

    async def _read(self, projection: Projection, position: int, limit: int) -> list[Recorded]:
        try:
            return await self._log.after(position, limit)
        except UnknownEventError as error:
            if limit > 1:
                return await self._read(projection, position, limit // 2)
            raise ProjectionFailedError(projection.name, position + 1, str(error)) from error

    async def _apply(self, projection: Projection, state: str, position: int, batch: list[Recorded]) -> None:
        try:
            await apply(self.connection, [projection], state, position, batch)
        except PositionLostError as error:
            raise BuildInterruptedError(f"Somebody else works on {error}.") from error
        except Exception as error:  # a projection may raise anything
            if passes(error):
                raise
            if is_exhausted(error):
                raise BuildFailedError(projection.name, first_line(error)) from error
            if len(batch) == 1:
                raise ProjectionFailedError(projection.name, position + 1, told(error)) from error
            for item in batch:
                await self._apply(projection, state, item.position - 1, [item])


@asynccontextmanager
async def open_builder(conninfo: str, schema: str, workers: int, report: Report) -> AsyncGenerator[Builder]:
    """Open what it takes to build: the log, a connection for the locks, and so many worker processes.

    Raises:
        StoreUnavailableError: the database does not answer.
        BuildInterruptedError: the database has gone meanwhile.
    """
    database = Database(conninfo, schema)
    async with AsyncExitStack() as stack:
        stack.enter_context(interrupted())
        await database.open()
        stack.push_async_callback(database.close)
        connection = await stack.enter_async_context(await database.connect())
        # Workers start when they are first needed.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield Builder(database, connection, pool, workers, report)


async def run_all(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run everything at once; the first error ends what has not begun."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            # One that is being cancelled waits for its worker; to cancel it once more would end that wait.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _start_worker() -> None:
    """A worker ends with the process that started it, which alone hears a Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # A chunk of events is thrown away as a whole: looking for cycles in it now and then is enough, and saves a fifth.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
