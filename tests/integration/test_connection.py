"""A connection that is watched from one statement to the next: what comes unasked, too much at once, or not at all."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import psycopg
import pytest

from eventlog.connection import WatchedConnection
from eventlog.database import Database
from eventlog.prepared import execute_prepared
from tests.support.store import rows, until

# Commands run on the one, servers on the other; each takes a socket's number that is used again amiss in its own way.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

ACTIVE = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s AND state = 'active'"


async def connected(database_url: str) -> WatchedConnection:
    return await WatchedConnection.connect(database_url, autocommit=True)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[WatchedConnection]:
    async with await connected(database_url) as connection:
        yield connection


async def answer(connection: WatchedConnection, statement: bytes = b"SELECT 1", *parameters: object) -> object:
    row = await (await connection.execute(statement, parameters or None)).fetchone()
    assert row is not None
    return row[0]


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def test_statements_are_answered_one_after_the_other(connection: WatchedConnection) -> None:
    assert [await answer(connection, b"SELECT %s::integer", number) for number in range(100)] == list(range(100))


async def test_more_than_the_socket_takes_at_once_goes_and_comes(connection: WatchedConnection) -> None:
    text = "x" * 20_000_000
    assert await answer(connection, b"SELECT %s::text", text) == text
    assert await answer(connection) == 1


async def test_a_statement_nobody_waits_for_any_longer_is_stopped_and_the_connection_goes_on(
    connection: WatchedConnection, database_url: str
) -> None:
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await until(lambda: rows(database_url, ACTIVE, ["SELECT pg_sleep%"]))
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert rows(database_url, ACTIVE, ["SELECT pg_sleep%"]) == []
    assert await answer(connection) == 1


async def test_a_statement_given_up_while_it_is_sent_leaves_the_connection_usable(
    connection: WatchedConnection,
) -> None:
    pid = await answer(connection, b"SELECT pg_backend_pid()")
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGSTOP)
    try:
        sending = asyncio.create_task(connection.execute("SELECT length(%s)", ["x" * 20_000_000]))
        await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.sleep(0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await answer(connection) == 1


async def test_a_statement_given_up_for_time_leaves_the_connection_usable(connection: WatchedConnection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await connection.execute("SELECT pg_sleep(60)")
    assert await answer(connection) == 1


async def test_what_comes_unasked_keeps_nobody_busy_and_is_read_with_the_next_statement(
    connection: WatchedConnection, database_url: str
) -> None:
    heard: list[str] = []
    connection.add_notify_handler(lambda notify: heard.append(notify.payload))
    await connection.execute("LISTEN news")
    rows(database_url, "NOTIFY news, 'rain'")
    before = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - before < 0.2
    await answer(connection)
    assert heard == ["rain"]


async def test_the_servers_end_keeps_nobody_busy_and_fails_the_next_statement(
    connection: WatchedConnection, database_url: str
) -> None:
    pid = await answer(connection, b"SELECT pg_backend_pid()")
    rows(database_url, "SELECT pg_terminate_backend(%s)", [pid])
    before = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - before < 0.2
    with pytest.raises(psycopg.OperationalError):
        await answer(connection)


async def test_a_statement_under_way_when_the_server_ends_fails(
    connection: WatchedConnection, database_url: str
) -> None:
    pid = await answer(connection, b"SELECT pg_backend_pid()")
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await until(lambda: rows(database_url, ACTIVE, ["SELECT pg_sleep%"]))
    rows(database_url, "SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(psycopg.OperationalError):
        await sleeping


@pytest.mark.parametrize("under_way", [True, False])
async def test_who_comes_after_a_broken_connection_gets_its_own_answers(
    connection: WatchedConnection, database_url: str, *, under_way: bool
) -> None:
    """libpq closes the socket of a connection that the server has ended, long before the connection is closed."""
    number, pid = connection.fileno(), await answer(connection, b"SELECT pg_backend_pid()")
    statement = asyncio.create_task(connection.execute("SELECT pg_sleep(60)")) if under_way else None
    await until(lambda: not under_way or rows(database_url, ACTIVE, ["SELECT pg_sleep%"]))
    rows(database_url, "SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.OperationalError):
        await (statement or answer(connection))
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        others = [await stack.enter_async_context(await connected(database_url)) for _ in range(5)]
        assert number in {other.fileno() for other in others}
        assert [await answer(other) for other in others] == [1] * 5
        await connection.close()
        assert [await answer(other) for other in others] == [1] * 5


@pytest.mark.parametrize("size", [1, 3_000_000])
async def test_broken_connections_leave_no_descriptor_behind_though_nobody_closes_them(
    connection: WatchedConnection, database_url: str, size: int
) -> None:
    await answer(connection)
    before = descriptors()
    broken = [await connected(database_url) for _ in range(5)]
    for each in broken:
        await execute_prepared(each, b"SELECT length($1)", b"x")
        rows(database_url, "SELECT pg_terminate_backend(%s, 5000)", [each.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            await execute_prepared(each, b"SELECT length($1)", b"x" * size)
    await until(lambda: descriptors() <= before)
    assert await answer(connection) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_connection_that_is_forgotten_is_closed(connection: WatchedConnection, database_url: str) -> None:
    await answer(connection)
    before = descriptors()
    forgotten = await connected(database_url)
    await answer(forgotten)
    del forgotten
    gc.collect()
    await until(lambda: descriptors() <= before)


async def test_who_comes_after_a_closed_connection_gets_its_own_answers(database_url: str) -> None:
    """A new connection often has the number of the socket that was closed before."""
    async with await connected(database_url) as standing:
        for number in range(30):
            async with await connected(database_url) as passing:
                assert await asyncio.gather(
                    answer(passing, b"SELECT %s::integer", number), answer(standing, b"SELECT %s::integer", -number)
                ) == [number, -number]


async def test_pooled_connections_replace_those_that_the_server_ended(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    try:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'turnlog'"
        assert await database.fetch("SELECT 1") == [(1,)]
        with suppress(psycopg.Error):
            rows(database_url, ended)
        assert await database.fetch("SELECT 2") == [(2,)]
    finally:
        await database.close()
