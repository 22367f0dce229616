"""Rebuilds that a serving process starts: each in a process of its own, so that serving never waits for it."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from eventlog.background import cancel_and_wait
from eventlog.db.connection import translated_errors
from eventlog.db.database import Database
from eventlog.errors import LogError, StoreUnavailableError
from projections import builds
from projections.catalog import PROJECTIONS, find_projection
from projections.errors import ProjectionError, RebuildRunningError
from projections.rebuild.builder import BuildStep, open_builder
from projections.rebuild.rebuild import rebuild
from projections.rebuild.workers import end_with_parent

WORKERS = 1
CLAIM_TIMEOUT_S = 30.0
RETRY_S = 1.0
MAX_RETRY_S = 60.0

_spawn = get_context("spawn")
_log = logging.getLogger(__name__)


class RebuildJobs:
    """The rebuilds this process has started. They end with it, and the next rebuild goes on where they were."""

    def __init__(self, database: Database, claim_timeout_s: float = CLAIM_TIMEOUT_S) -> None:
        self._database = database
        self._claim_timeout_s = claim_timeout_s
        self._starting: set[str] = set()
        self._processes: list[SpawnProcess] = []
        self._first: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to build what this release reads and nobody has built yet; the log it is for may be long."""
        self._first = asyncio.create_task(self._build_first(), name="first-builds")

    async def close(self) -> None:
        """End all jobs."""
        if self._first is not None:
            await cancel_and_wait([self._first])
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            await asyncio.to_thread(process.join)

    async def start(self, name: str) -> SpawnProcess:
        """Start to rebuild a projection; no process is started where that is known to be in vain.

        Raises:
            RebuildRunningError: it is being rebuilt or verified, or is about to be.
            StoreUnavailableError: the database does not answer, or the process has ended before it claimed the build.
        """
        if name in self._starting:
            raise RebuildRunningError(name)
        self._starting.add(name)
        try:
            async with self._right_to_start(name):
                return await self._launch(name)
        finally:
            self._starting.discard(name)

    @asynccontextmanager
    async def _right_to_start(self, name: str) -> AsyncGenerator[None]:
        """Keep all other servers from starting a rebuild of the projection.

        The rebuild's own lock is left to the process that is started: a connection cannot hand a lock on. What that
        process or a command claims is seen here, as whoever starts one holds this lock until it has claimed its own.
        """
        async with await self._database.connect() as connection:
            with translated_errors():
                free = await builds.try_lock(connection, builds.starting_lock(self._database.schema, name))
                taken = await builds.is_locked(connection, builds.rebuild_lock(self._database.schema, name))
            try:
                if taken or not free:
                    raise RebuildRunningError(name)
                yield
            finally:
                await builds.unlock(connection)

    async def _launch(self, name: str) -> SpawnProcess:
        ours, theirs = _spawn.Pipe(duplex=False)
        arguments = (self._database.conninfo, self._database.schema, name, theirs)
        process = _spawn.Process(target=_run, args=arguments, name=f"turnlog rebuild {name}")
        await asyncio.to_thread(process.start)
        theirs.close()
        self._processes = [each for each in self._processes if each.is_alive()] + [process]
        with ours:
            claimed = await asyncio.to_thread(_claimed, ours, self._claim_timeout_s)
        if claimed is None:
            process.terminate()
            await asyncio.to_thread(process.join)
            raise StoreUnavailableError(f"The rebuild of {name} could not be started; the server's log may say why.")
        if not claimed:
            raise RebuildRunningError(name)
        return process

    async def _build_first(self) -> None:
        """Build what is read by this release and was never built, until it is; whoever did so may have been killed."""
        pause_s = RETRY_S
        while names := await self._unbuilt():
            for name in names:
                _log.warning("%s is built for this release", name)
                with suppress(RebuildRunningError, LogError):  # another process is at it, or it is tried again
                    await asyncio.to_thread((await self.start(name)).join)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    async def _unbuilt(self) -> list[str]:
        while True:
            try:
                known = await builds.read_builds(self._database)
            except LogError:
                await asyncio.sleep(RETRY_S)
                continue
            built = {(build.name, build.version) for build in known if build.state == "live"}
            return [each.name for each in PROJECTIONS if (each.name, each.version) not in built]


def _claimed(told: Connection, timeout_s: float) -> bool | None:
    """Return whether the process has claimed the projection; None where it did not say so in time, or has ended."""
    try:
        return told.recv() if told.poll(timeout_s) else None
    except (EOFError, OSError):
        return None


def _run(conninfo: str, schema: str, name: str, claimed: Connection) -> None:
    """The life of a job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        asyncio.run(_rebuild(conninfo, schema, name, claimed))
    except RebuildRunningError:
        raise SystemExit(1) from None  # who asked is told
    except (ProjectionError, LogError) as error:
        _log.error("rebuild of %s: %s", name, error)
        raise SystemExit(1) from None


async def _rebuild(conninfo: str, schema: str, name: str, claimed: Connection) -> None:
    projection = find_projection(name)
    async with open_builder(conninfo, schema, WORKERS, _ignore) as builder:
        try:
            await builder.claim([projection])
        except RebuildRunningError:
            claimed.send(False)
            raise
        claimed.send(True)
        for switched in await rebuild(builder, [projection]):
            if switched.compared and switched.compared.differing:
                _log.warning("%s of %s had rows that were wrong", switched.compared.differing, name)


def _ignore(_: BuildStep) -> None:
    """The registry tells how a rebuild comes along."""
