"""Rebuilds that a server starts, each in a process of its own."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess

from eventlog.background import Background
from eventlog.db.connection import translated_errors
from eventlog.db.database import Database
from eventlog.errors import LogError, StoreUnavailableError
from eventlog.retry import equal_pauses, retry
from projections import builds
from projections.advisory_locks import is_locked, rebuild_lock, starting_lock, try_lock, unlock_all
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
    """The rebuild processes of this server.

    They end with the server. The next rebuild resumes their builds.
    """

    def __init__(
        self,
        database: Database,
        claim_timeout_s: float = CLAIM_TIMEOUT_S,
        set_up_process: Callable[[], None] | None = None,
    ) -> None:
        """`set_up_process` is called first in each new process, and has to be picklable."""
        self._set_up_process = set_up_process
        self._database = database
        self._claim_timeout_s = claim_timeout_s
        self._starting: set[str] = set()
        self._processes: list[SpawnProcess] = []
        self._background = Background()

    def open(self) -> None:
        """Start to build the projection versions of this release that have no live build."""
        self._background.once("first-builds", self._build_first)

    async def close(self) -> None:
        """End all rebuild processes."""
        await self._background.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            await asyncio.to_thread(process.join)

    async def start(self, name: str) -> SpawnProcess:
        """Start a process that rebuilds a projection, and wait until it has claimed it.

        Raises:
            RebuildRunningError: another process rebuilds or verifies the projection, or is about to.
            StoreUnavailableError: the database does not answer, or the process has ended before it claimed the build.
        """
        if name in self._starting:
            raise RebuildRunningError(name)
        self._starting.add(name)
        try:
            async with self._hold_starting_lock(name):
                return await self._launch(name)
        finally:
            self._starting.discard(name)

    @asynccontextmanager
    async def _hold_starting_lock(self, name: str) -> AsyncGenerator[None]:
        """Keep all other servers from starting a rebuild of the projection.

        Raises:
            RebuildRunningError: another server starts one, or another process has claimed the build.
        """
        # A connection cannot hand a lock on, so the started process takes the rebuild lock itself. The starting lock is
        # held until then: a server that gets it sees every rebuild lock that was taken before.
        async with await self._database.connect() as connection:
            with translated_errors():
                free = await try_lock(connection, starting_lock(self._database.schema, name))
                taken = await is_locked(connection, rebuild_lock(self._database.schema, name))
            try:
                if taken or not free:
                    raise RebuildRunningError(name)
                yield
            finally:
                await unlock_all(connection)

    async def _launch(self, name: str) -> SpawnProcess:
        receiver, sender = _spawn.Pipe(duplex=False)
        arguments = (self._database.conninfo, self._database.schema, name, sender, self._set_up_process)
        process = _spawn.Process(target=_run, args=arguments, name=f"turnlog rebuild {name}")
        await asyncio.to_thread(process.start)
        sender.close()
        self._processes = [each for each in self._processes if each.is_alive()] + [process]
        with receiver:
            claimed = await asyncio.to_thread(_receive_claim, receiver, self._claim_timeout_s)
        if claimed is None:
            process.terminate()
            await asyncio.to_thread(process.join)
            raise StoreUnavailableError(f"The rebuild of {name} could not be started; the server's log may say why.")
        if not claimed:
            raise RebuildRunningError(name)
        return process

    async def _build_first(self) -> None:
        """Build every projection version that has no live build, until all have."""
        # A process that builds one of them may be killed before it is done.
        pause_s = RETRY_S
        while names := await self._unbuilt():
            for name in names:
                _log.warning("building %s for this release", name)
                with suppress(RebuildRunningError, LogError):  # another process builds it, or the next round does
                    await asyncio.to_thread((await self.start(name)).join)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    async def _unbuilt(self) -> list[str]:
        every = await retry(partial(builds.read_builds, self._database), LogError, equal_pauses(RETRY_S))
        built = {(build.name, build.version) for build in every if build.state == "live"}
        return [each.name for each in PROJECTIONS if (each.name, each.version) not in built]


def _receive_claim(receiver: Pipe, timeout_s: float) -> bool | None:
    """Return whether a process has claimed the projection, or None.

    None says that it did not answer in time, or has ended.
    """
    try:
        return receiver.recv() if receiver.poll(timeout_s) else None
    except (EOFError, OSError):
        return None


def _run(conninfo: str, schema: str, name: str, claimed: Pipe, set_up_process: Callable[[], None] | None) -> None:
    """Run a rebuild in this process and end."""
    if set_up_process:
        set_up_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        asyncio.run(_rebuild(conninfo, schema, name, claimed))
    except RebuildRunningError:
        raise SystemExit(1) from None  # the starting process has the answer
    except (ProjectionError, LogError) as error:
        _log.error("rebuild of %s failed: %s", name, error)
        raise SystemExit(1) from None


async def _rebuild(conninfo: str, schema: str, name: str, claimed: Pipe) -> None:
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
                _log.warning("%s rows of the replaced build of %s were wrong", switched.compared.differing, name)


def _ignore(_: BuildStep) -> None:
    """Do nothing: readers of the status see the progress in the registry."""
