"""Rebuilds that a serving process starts: each in a process of its own, so that serving never waits for it."""

import asyncio
import logging
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from eventlog.database import Database
from eventlog.errors import LogError
from projections import builds
from projections.building import Step, open_builder
from projections.catalog import PROJECTIONS, named
from projections.errors import ProjectionError, RebuildRunningError
from projections.loading import end_with_parent
from projections.rebuild import rebuild

WORKERS = 1
CLAIM_TIMEOUT_S = 30.0

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

    async def start(self, names: list[str]) -> None:
        """Start to rebuild some projections.

        Raises:
            RebuildRunningError: somebody is at it.
        """
        ours, theirs = _spawn.Pipe(duplex=False)
        arguments = (self._database.conninfo, self._database.schema, names, theirs)
        process = _spawn.Process(target=_run, args=arguments, name=f"turnlog rebuild {' '.join(names)}")
        await asyncio.to_thread(process.start)
        theirs.close()
        self._processes = [each for each in self._processes if each.is_alive()] + [process]
        with ours:
            claimed = await asyncio.to_thread(_claimed, ours)
        if not claimed:
            raise RebuildRunningError(", ".join(names))

    async def _build_first(self) -> None:
        try:
            known = await builds.read_builds(self._database)
            built = {(build.name, build.version) for build in known if build.state == "live"}
            names = [each.name for each in PROJECTIONS if (each.name, each.version) not in built]
            if names:
                _log.warning("building %s for this release; an older version serves meanwhile", ", ".join(names))
                await self.start(names)
        except RebuildRunningError:
            _log.info("another process builds already")
        except LogError as error:
            _log.warning("nothing is built for this release yet: %s", error)


def _claimed(told: Connection) -> bool:
    """Return whether the process has got hold of the projections; it ends where it has not."""
    try:
        return told.poll(CLAIM_TIMEOUT_S) and bool(told.recv())
    except EOFError:
        return False


def _run(conninfo: str, schema: str, names: list[str], claimed: Connection) -> None:
    """The life of a job."""
    end_with_parent()
    try:
        asyncio.run(_rebuild(conninfo, schema, names, claimed))
    except (ProjectionError, LogError) as error:
        _log.error("rebuild of %s: %s", ", ".join(names), error)
        raise SystemExit(1) from None


async def _rebuild(conninfo: str, schema: str, names: list[str], claimed: Connection) -> None:
    projections = [named(name) for name in names]
    async with open_builder(conninfo, schema, WORKERS, _ignore) as builder:
        await builder.claim(projections)
        claimed.send(True)
        await rebuild(builder, projections)


def _ignore(_: Step) -> None:
    """The registry tells how a rebuild comes along."""
