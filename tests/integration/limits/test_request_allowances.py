"""Requests of an owner in a minute, counted over processes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from api.limits import request_allowances
from api.limits.request_allowances import RequestLimit
from domain.errors import LimitReachedError
from eventlog.db.database import POOL_SIZE, Database
from eventlog.errors import StoreUnavailableError
from tests.support.rebuilding import locked
from tests.support.store import Store, blocked_backend, rows
from tests.support.waiting import eventually

LIMIT = 60
LOCK_OF_ALICE = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':requests:alice', 0))"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    """The monotonic clock of the processes."""
    clock = Clock()
    monkeypatch.setattr(request_allowances, "monotonic", clock.time)
    return clock


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class RepeatingDatabase:
    """A database that loses the first answer of each statement and repeats it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, *given: object) -> object:
        await self._database.fetch(*given)  # pyright: ignore[reportArgumentType]
        return await self._database.fetch(*given)  # pyright: ignore[reportArgumentType]

    async def fetch_one(self, *given: object) -> object:
        await self._database.fetch_one(*given)  # pyright: ignore[reportArgumentType]
        return await self._database.fetch_one(*given)  # pyright: ignore[reportArgumentType]


class CountingDatabase:
    """A database that counts the statements of a limit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.statements = 0
        self.away = False

    async def fetch(self, *given: object) -> object:
        self.statements += 1
        return await self._database.fetch(*given)  # pyright: ignore[reportArgumentType]

    async def fetch_one(self, *given: object) -> object:
        if self.away:
            raise StoreUnavailableError("Away.")
        self.statements += 1
        return await self._database.fetch_one(*given)  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def limit_of(store: Store, at_most: int = LIMIT) -> AsyncGenerator[RequestLimit]:
    limit = RequestLimit(store.database, at_most)
    try:
        yield limit
    finally:
        await limit.close()


async def accepted(limit: RequestLimit, owner_id: str, requests: int) -> int:
    """Send requests at once and return how many passed."""
    results = await asyncio.gather(*(limit.spend(owner_id) for _ in range(requests)), return_exceptions=True)
    refused = [result for result in results if result is not None]
    assert all(isinstance(result, LimitReachedError) for result in refused), refused
    return requests - len(refused)


@pytest.mark.parametrize("at_most", [1, 2, 7, 60, 1000])
async def test_two_processes_together_let_no_more_pass_than_the_limit(here: Store, there: Store, at_most: int) -> None:
    async with limit_of(here, at_most) as one, limit_of(there, at_most) as other:
        found = await asyncio.gather(
            accepted(one, "alice", at_most), accepted(other, "alice", at_most), accepted(one, "bob", at_most)
        )
    assert found[0] + found[1] == at_most  # all of it, as both ask until nothing is left
    assert found[2] == at_most  # another owner is not affected


async def test_an_owner_at_its_limit_is_told_when_the_minute_is_over(here: Store, clock: Clock) -> None:
    async with limit_of(here, 2) as limit:
        assert await accepted(limit, "alice", 2) == 2
        clock.now += 20.5
        with pytest.raises(LimitReachedError) as refused:
            await limit.spend("alice")
        assert 0 < refused.value.retry_after_s <= 60


async def test_a_new_minute_begins_when_the_old_one_is_over(here: Store, there: Store, clock: Clock) -> None:
    async with limit_of(here, 3) as one, limit_of(there, 3) as other:
        for _ in range(3):
            assert await accepted(one, "alice", 2) + await accepted(other, "alice", 2) == 3
            await here.database.fetch("UPDATE request_allowances SET begins_at = begins_at - interval '61 seconds'")
            clock.now += 61


async def test_requests_pass_from_memory(here: Store) -> None:
    database = CountingDatabase(here.database)
    limit = RequestLimit(database, 10_000)  # pyright: ignore[reportArgumentType]
    assert await accepted(limit, "alice", 5000) == 5000
    assert database.statements < 10


async def test_refusals_need_no_statement(here: Store, clock: Clock) -> None:
    database = CountingDatabase(here.database)
    limit = RequestLimit(database, 5)  # pyright: ignore[reportArgumentType]
    assert await accepted(limit, "alice", 1000) == 5
    before = database.statements
    assert await accepted(limit, "alice", 1000) == 0
    assert database.statements == before


async def test_an_unused_share_goes_to_another_process(here: Store, there: Store, clock: Clock) -> None:
    async with limit_of(here) as one, limit_of(there) as other:
        assert await accepted(one, "alice", 1) == 1
        got = await accepted(other, "alice", LIMIT)
        assert got < LIMIT - 1  # the first process holds a share
        one.sweep()
        assert await accepted(one, "alice", 1) == 1  # which it has just used, and keeps
        clock.now += request_allowances.UNUSED_S + 0.1
        one.sweep()
        busy = one._allowances["alice"].busy
        assert busy
        await busy
        assert await accepted(other, "alice", LIMIT) == LIMIT - 2 - got


async def test_a_share_that_was_given_back_is_not_used_here(here: Store, there: Store, clock: Clock) -> None:
    async with limit_of(here) as one, limit_of(there) as other:
        assert await accepted(one, "alice", 1) == 1
        clock.now += request_allowances.UNUSED_S + 0.1
        one.sweep()
        found = await asyncio.gather(accepted(one, "alice", LIMIT), accepted(other, "alice", LIMIT))
        assert sum(found) <= LIMIT - 1
        clock.now += request_allowances.ASK_AGAIN_S + 0.1
        assert sum(found) + await accepted(one, "alice", LIMIT) + await accepted(other, "alice", LIMIT) == LIMIT - 1


async def test_the_share_of_a_process_that_died_is_lost_for_the_minute_only(
    here: Store, there: Store, clock: Clock
) -> None:
    dead = RequestLimit(there.database, LIMIT)
    assert await accepted(dead, "alice", 1) == 1
    async with limit_of(here) as limit:
        first = await accepted(limit, "alice", LIMIT)
        assert LIMIT / 2 < first < LIMIT
        await here.database.fetch("UPDATE request_allowances SET begins_at = begins_at - interval '61 seconds'")
        clock.now += 61
        assert await accepted(limit, "alice", 2 * LIMIT) == LIMIT


async def test_a_statement_that_runs_twice_grants_the_same_requests(here: Store) -> None:
    async with limit_of(here) as limit:
        await limit.spend("alice")
        (minute, holder), *_ = await here.database.fetch("SELECT begins_at, holder FROM request_allowances")
        again = "SELECT taken FROM take_requests('alice', %s, %s, 1, 60)"
        assert await here.database.fetch(again, [holder, minute]) == await here.database.fetch(again, [holder, minute])


async def test_no_request_is_lost_with_the_answer_of_a_statement(here: Store) -> None:
    limit = RequestLimit(RepeatingDatabase(here.database), LIMIT)  # pyright: ignore[reportArgumentType]
    assert await accepted(limit, "alice", 2 * LIMIT) == LIMIT
    await limit.close()


@pytest.mark.parametrize("step", ["30 seconds", "-30 seconds"])
async def test_a_step_of_the_databases_clock_grants_nothing_twice(here: Store, step: str) -> None:
    async with limit_of(here, 4) as limit, limit_of(here, 4) as other:
        assert await accepted(limit, "alice", 4) == 4
        await here.database.fetch("UPDATE request_allowances SET begins_at = begins_at + %s::interval", [step])
        assert await accepted(other, "alice", 4) == 0


async def test_a_store_that_is_away_fails_only_requests_that_need_it(here: Store) -> None:
    database = CountingDatabase(here.database)
    limit = RequestLimit(database, LIMIT)  # pyright: ignore[reportArgumentType]
    await limit.spend("alice")
    database.away = True
    await limit.spend("alice")
    results = await asyncio.gather(*(limit.spend("bob") for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 5
    database.away = False
    await limit.spend("bob")


async def test_old_minutes_are_deleted(here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_allowances, "SWEEP_INTERVAL_S", 0.01)
    monkeypatch.setattr(request_allowances, "DELETE_EVERY_SWEEPS", 1)
    async with limit_of(here) as limit:
        await limit.spend("alice")
        await limit.spend("bob")
        old = "UPDATE request_allowances SET begins_at = begins_at - interval '1 hour' WHERE owner_id = 'alice'"
        await here.database.fetch(old)
        await limit.open()
        remaining = "SELECT owner_id FROM request_allowances"
        await asyncio.to_thread(eventually, lambda: rows(database_url, remaining) == [("bob",)])


async def test_a_process_that_stops_gives_back_its_share(here: Store, there: Store) -> None:
    async with limit_of(there) as stopped:
        await stopped.spend("alice")
    async with limit_of(here) as limit:
        assert await accepted(limit, "alice", LIMIT) == LIMIT - 1


async def test_a_flood_of_one_owner_leaves_connections_to_the_others(here: Store, database_url: str) -> None:
    async with limit_of(here, POOL_SIZE) as limit:
        with locked(database_url, LOCK_OF_ALICE):
            flood = [asyncio.create_task(limit.spend("alice")) for _ in range(3 * POOL_SIZE)]
            await blocked_backend(database_url)
            assert await accepted(limit, "bob", POOL_SIZE) == POOL_SIZE
            assert not any(task.done() for task in flood)
        results = await asyncio.gather(*flood, return_exceptions=True)
    assert results.count(None) == POOL_SIZE


async def test_a_refused_owner_costs_the_others_no_statement(here: Store, clock: Clock) -> None:
    database = CountingDatabase(here.database)
    limit = RequestLimit(database, 5)  # pyright: ignore[reportArgumentType]
    assert await accepted(limit, "alice", 100) == 5
    before = database.statements
    results = await asyncio.gather(accepted(limit, "alice", 1000), accepted(limit, "bob", 5))
    assert results == [0, 5]
    assert database.statements - before <= 6  # those of Bob
