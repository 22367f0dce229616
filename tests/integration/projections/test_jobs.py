"""Serving processes start at most one rebuild process for each projection."""

import asyncio
import resource
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing import active_children
from multiprocessing.context import SpawnProcess

import psycopg
import pytest

from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError
from projections.advisory_locks import rebuild_lock, starting_lock
from projections.errors import RebuildRunningError
from projections.rebuild.jobs import RebuildJobs
from tests.support.store import until, value

NAME = "usage"
BUILDS = "SELECT count(*)::integer FROM projections WHERE name = 'usage'"
HOLD = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
HELD = """
SELECT count(*)::integer FROM pg_locks
WHERE locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0)
"""


@pytest.fixture
async def jobs(prepared_url: str) -> AsyncIterator[RebuildJobs]:
    jobs = RebuildJobs(Database(prepared_url))
    yield jobs
    await jobs.close()


@pytest.fixture
async def other_jobs(prepared_url: str) -> AsyncIterator[RebuildJobs]:
    """The rebuilds of another serving process."""
    jobs = RebuildJobs(Database(prepared_url))
    yield jobs
    await jobs.close()


@asynccontextmanager
async def rebuilds_blocked(conninfo: str) -> AsyncGenerator[None]:
    """Block every rebuild after its claim."""
    async with await psycopg.AsyncConnection.connect(conninfo) as connection, connection.transaction():
        await connection.execute("LOCK TABLE turnlog.projections IN ACCESS EXCLUSIVE MODE")
        yield


def reaped() -> int:
    """Return a number that grows with every child process that was reaped."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


async def requested(*all_jobs: RebuildJobs, times: int) -> tuple[list[SpawnProcess], Counter[type]]:
    """Request `times` rebuilds concurrently from each of `all_jobs`.

    Return the started processes, and the errors by type.
    """
    work = [jobs.start(NAME) for _ in range(times) for jobs in all_jobs]
    answers = await asyncio.gather(*work, return_exceptions=True)
    started = [answer for answer in answers if isinstance(answer, SpawnProcess)]
    return started, Counter(type(answer) for answer in answers if isinstance(answer, BaseException))


async def ended(process: SpawnProcess) -> int | None:
    await asyncio.to_thread(process.join)
    return process.exitcode


async def test_one_of_many_concurrent_requests_starts_a_process_and_the_others_are_refused(
    jobs: RebuildJobs, prepared_url: str
) -> None:
    before = reaped()
    async with rebuilds_blocked(prepared_url):
        (process,), refused = await requested(jobs, times=50)
        assert refused == {RebuildRunningError: 49}
        assert (active_children(), reaped()) == ([process], before)
        assert await requested(jobs, times=2) == ([], {RebuildRunningError: 2})
        assert (active_children(), reaped()) == ([process], before)
    assert await ended(process) == 0
    assert value(prepared_url, BUILDS) == 2


async def test_one_of_two_concurrent_servers_starts_a_process(
    jobs: RebuildJobs, other_jobs: RebuildJobs, prepared_url: str
) -> None:
    before = reaped()
    async with rebuilds_blocked(prepared_url):
        (process,), refused = await requested(jobs, other_jobs, times=5)
        assert refused == {RebuildRunningError: 9}
        assert (active_children(), reaped()) == ([process], before)
    assert await ended(process) == 0
    assert value(prepared_url, BUILDS) == 2


@pytest.mark.parametrize("lock", [rebuild_lock, starting_lock])
async def test_no_process_is_started_while_another_rebuild_runs_or_starts(
    jobs: RebuildJobs, prepared_url: str, lock: Callable[[str, str], str]
) -> None:
    before = reaped()
    async with await psycopg.AsyncConnection.connect(prepared_url, autocommit=True) as held:
        await held.execute(HOLD, [lock("turnlog", NAME)])
        assert await requested(jobs, times=1) == ([], {RebuildRunningError: 1})
    assert (active_children(), reaped()) == ([], before)
    await until(lambda: not value(prepared_url, HELD, [lock("turnlog", NAME)]))
    (process,), _ = await requested(jobs, times=1)
    assert await ended(process) == 0


async def test_a_process_that_dies_before_its_claim_does_not_block_the_next(
    jobs: RebuildJobs, prepared_url: str
) -> None:
    starting = asyncio.create_task(jobs.start(NAME))
    await until(active_children)
    (process,) = active_children()
    process.kill()
    with pytest.raises(StoreUnavailableError):
        await starting
    assert process.exitcode == -signal.SIGKILL
    (process,), refused = await requested(jobs, times=1)
    assert not refused and await ended(process) == 0
    assert value(prepared_url, BUILDS) == 2


async def test_a_process_that_does_not_claim_in_time_is_ended(prepared_url: str) -> None:
    jobs = RebuildJobs(Database(prepared_url), claim_timeout_s=0)
    with pytest.raises(StoreUnavailableError):
        await jobs.start(NAME)
    assert active_children() == []
    assert value(prepared_url, BUILDS) == 1


async def test_a_rebuild_that_is_claimed_elsewhere_meanwhile_is_refused(jobs: RebuildJobs, prepared_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(prepared_url, autocommit=True) as held:
        starting = asyncio.create_task(jobs.start(NAME))
        await until(active_children)
        await held.execute(HOLD, [rebuild_lock("turnlog", NAME)])  # as `turnlog projections rebuild` does
        with pytest.raises(RebuildRunningError):
            await starting


async def test_no_process_is_started_while_the_database_is_down(prepared_url: str) -> None:
    before = reaped()
    with pytest.raises(StoreUnavailableError):
        await RebuildJobs(Database("host=127.0.0.1 port=1 dbname=nowhere")).start(NAME)
    assert (active_children(), reaped()) == ([], before)
