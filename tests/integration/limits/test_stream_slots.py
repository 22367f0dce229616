"""Open streams of an owner, counted over processes."""

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits.stream_slots import StreamLimit
from domain.errors import LimitReachedError
from eventlog.db.database import POOL_SIZE
from tests.support.rebuilding import locked
from tests.support.store import Store, blocked_backend, rows

LOCK_OF_ALICE = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':streams:alice', 0))"


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """A stream that ends when it is cancelled."""
    await asyncio.Event().wait()


async def answer() -> ASGIApp:
    return endless


async def failing() -> ASGIApp:
    raise RuntimeError("no stream")


async def receive() -> Message:
    return {"type": "http.disconnect"}


async def send(_: Message) -> None:
    return None


async def end(limit: StreamLimit, stream: ASGIApp) -> None:
    """Send a stream, and cancel it, as when its client disconnects."""
    task = asyncio.create_task(stream({}, receive, send))  # pyright: ignore[reportArgumentType]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await limit._background.finish()


async def test_two_processes_together_open_no_more_streams_than_the_limit(here: Store, there: Store) -> None:
    one, other = StreamLimit(here.database, 5), StreamLimit(there.database, 5)
    opening = [limit.hold("alice", answer) for _ in range(6) for limit in (one, other)]
    results = await asyncio.gather(*opening, return_exceptions=True)
    refused = [result for result in results if isinstance(result, LimitReachedError)]
    assert len(refused) == 7
    assert {result.retry_after_s for result in refused} == {1}
    assert len(await asyncio.gather(*(one.hold("bob", answer) for _ in range(5)))) == 5


async def test_a_stream_counts_until_it_ends(here: Store, there: Store) -> None:
    one, other = StreamLimit(here.database, 1), StreamLimit(there.database, 1)
    stream = await one.hold("alice", answer)
    with pytest.raises(LimitReachedError):
        await other.hold("alice", answer)
    await end(one, stream)
    await other.hold("alice", answer)


async def test_an_answer_that_is_no_stream_does_not_count(here: Store) -> None:
    limit = StreamLimit(here.database, 1)
    with pytest.raises(RuntimeError):
        await limit.hold("alice", failing)
    await limit._background.finish()
    await limit.hold("alice", answer)


async def test_the_streams_of_a_process_that_died_expire(here: Store, there: Store) -> None:
    await StreamLimit(there.database, 1).hold("alice", answer)
    limit = StreamLimit(here.database, 1)
    with pytest.raises(LimitReachedError):
        await limit.hold("alice", answer)
    await here.database.fetch("UPDATE open_streams SET expires_at = now() - interval '1 second'")
    await limit.hold("alice", answer)


async def test_a_process_that_stops_leaves_no_streams(here: Store, there: Store) -> None:
    stopped = StreamLimit(there.database, 1)
    await stopped.hold("alice", answer)
    await stopped.close()
    await StreamLimit(here.database, 1).hold("alice", answer)


async def test_a_renewed_stream_does_not_expire(here: Store, there: Store) -> None:
    one, other = StreamLimit(here.database, 1), StreamLimit(there.database, 1)
    await one.hold("alice", answer)
    await here.database.fetch("UPDATE open_streams SET expires_at = now() - interval '1 second'")
    await one.renew()
    with pytest.raises(LimitReachedError):
        await other.hold("alice", answer)


async def test_streams_are_counted_again_after_postgresql_has_forgotten_them(here: Store, there: Store) -> None:
    one, other = StreamLimit(here.database, 1), StreamLimit(there.database, 1)
    await one.hold("alice", answer)
    await here.database.fetch("TRUNCATE open_streams")
    await one.renew()
    with pytest.raises(LimitReachedError):
        await other.hold("alice", answer)


async def test_a_stream_that_ends_during_a_renewal_is_not_restored(here: Store, database_url: str) -> None:
    limit = StreamLimit(here.database, 1)
    for _ in range(20):
        stream = await limit.hold("alice", answer)
        await asyncio.gather(limit.renew(), end(limit, stream), limit.renew())
        assert rows(database_url, "SELECT 1 FROM open_streams") == []


async def test_a_clock_that_was_set_back_does_not_hold_streams_for_ever(here: Store, there: Store) -> None:
    await StreamLimit(there.database, 1).hold("alice", answer)
    await here.database.fetch("UPDATE open_streams SET expires_at = now() + interval '1 hour'")
    await StreamLimit(here.database, 1).hold("alice", answer)


async def test_a_flood_of_one_owner_leaves_connections_to_the_others(here: Store, database_url: str) -> None:
    limit = StreamLimit(here.database, 1)
    with locked(database_url, LOCK_OF_ALICE):
        flood = [asyncio.create_task(limit.hold("alice", answer)) for _ in range(3 * POOL_SIZE)]
        await blocked_backend(database_url)
        # Without a limit of its own, the flood would hold all connections of the pool now.
        await limit.hold("bob", answer)
        assert not any(task.done() for task in flood)
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(result, LimitReachedError) for result in results) == len(flood) - 1
