"""Rebuilds that a serving process starts: each in a process of its own, so that serving never waits for it."""

import asyncio
import logging
import signal
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from eventlog.database import Database
from eventlog.errors import LogError
from projections import builds
from projections.building import Step, open_builder
from projections.catalog import PROJECTIONS, named
from projections.errors import ProjectionError, RebuildRunningError
from projections.rebuild import rebuild
from projections.workers import end_with_parent

WORKERS = 1
CLAIM_TIMEOUT_S = 30.0
RETRY_S = 1.0
MAX_RETRY_S = 60.0

_spawn = get_context("spawn")
_log = logging.getLogger(__name__)


class RebuildJobs:
    """The rebuilds this process has started. They end with it, and the next rebuild goes on where they were."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._processes: list[SpawnProcess] = []
        self._first: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to build what this release reads and nobody has built yet; the log it is for may be long."""
        self._first = asyncio.create_task(self._build_first(), name="first-builds")

    async def close(self) -> None:
        """End all jobs."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            await asyncio.to_thread(process.join)

    async def start(self, name: str) -> SpawnProcess:
        """Start to rebuild a projection.

        Raises:
            RebuildRunningError: somebody is at it.
        """
        ours, theirs = _spawn.Pipe(duplex=False)
        arguments = (self._database.conninfo, self._database.schema, name, theirs)
        process = _spawn.Process(target=_run, args=arguments, name=f"turnlog rebuild {name}")
        await asyncio.to_thread(process.start)
        theirs.close()
        self._processes = [each for each in self._processes if each.is_alive()] + [process]
        with ours:
            claimed = await asyncio.to_thread(_claimed, ours)
        if not claimed:
            raise RebuildRunningError(name)
        return process

    async def _build_first(self) -> None:
        """Build what is read by this release and was never built, until it is; whoever did so may have been killed."""
        pause_s = RETRY_S
        while names := await self._unbuilt():
            for name in names:
                _log.warning("%s is built for this release", name)
                with suppress(RebuildRunningError):  # another process is at it
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


def _claimed(told: Connection) -> bool:
    """Return whether the process has got hold of the projections; it ends where it has not."""
    try:
        return told.poll(CLAIM_TIMEOUT_S) and bool(told.recv())
    except EOFError:
        return False


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
    projection = named(name)
    async with open_builder(conninfo, schema, WORKERS, _ignore) as builder:
        await builder.claim([projection])
        claimed.send(True)
        for switched in await rebuild(builder, [projection]):
            if switched.compared and switched.compared.differing:
                _log.warning("%s of %s had rows that were wrong", switched.compared.differing, name)


def _ignore(_: Step) -> None:
    """The registry tells how a rebuild comes along."""
