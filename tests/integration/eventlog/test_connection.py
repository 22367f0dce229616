"""Connections to PostgreSQL that end, break or freeze.

The tests run over TCP and a unix socket, on both event loops.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

import pytest

from eventlog import writer as writer_module
from eventlog.db import database as database_module
from eventlog.db.connection import time_limit
from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError
from projections.catalog import PROJECTIONS, install
from tests.support.histories.builders import Story
from tests.support.store import (
    ALICE,
    HELLO,
    PATIENCE_S,
    SESSIONS,
    Store,
    blocked_backend,
    blocked_head,
    end_sessions,
    opened,
    rows,
    started,
    until,
    value,
)

# Servers run on uvloop, commands on asyncio. Each handles the end of a connection differently.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


def session_pids(conninfo: str) -> list[int]:
    """Return the process ids of all sessions of the log."""
    return [row[0] for row in rows(conninfo, f"SELECT pid {SESSIONS}")]


@contextmanager
def frozen(pids: list[int]) -> Generator[None]:
    """Stop processes for as long as the block lasts."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
async def store(either_url: str) -> AsyncIterator[Store]:
    async with opened(either_url) as store:
        yield store


async def test_the_first_write_and_read_after_all_sessions_ended_succeed(store: Store, database_url: str) -> None:
    id_ = await started(store)
    for _ in range(3):
        assert end_sessions(database_url) > 0
        await store.commands.add_message(ALICE, id_, HELLO)
        assert end_sessions(database_url) > 0
        assert await store.log.head()
    assert (await store.conversations.state(id_)).message_count == 3


async def test_projections_continue_after_all_sessions_ended(either_url: str) -> None:
    await asyncio.to_thread(install, either_url)
    async with opened(either_url) as store, store.projecting(*PROJECTIONS) as progress:
        for _ in range(3):
            assert await progress.wait(await store.append(Story().events), PATIENCE_S) == []
            end_sessions(either_url)


async def test_a_waiting_command_is_answered_when_its_session_ends(store: Store, database_url: str) -> None:
    id_ = await started(store)
    with blocked_head(database_url):
        adding = asyncio.create_task(store.commands.add_message(ALICE, id_, HELLO))
        backend = await blocked_backend(database_url)
        rows(database_url, "SELECT pg_terminate_backend(%s)", [backend])
        with pytest.raises(StoreUnavailableError):
            await adding
    assert (await store.commands.add_message(ALICE, id_, HELLO)).state.message_count == 1


async def test_every_command_is_answered_while_sessions_end_repeatedly(store: Store, database_url: str) -> None:
    """Each command is recorded once or refused, and no answered command is lost."""
    ids = [await started(store) for _ in range(8)]
    recorded: list[int] = []

    async def write(conversation: int) -> None:
        for _ in range(20):
            try:
                committed = await store.commands.add_message(ALICE, ids[conversation], HELLO)
            except StoreUnavailableError:
                await asyncio.sleep(0.01)
            else:
                assert committed.position is not None
                recorded.append(committed.position)

    async def kill_all() -> None:
        while True:
            before = len(recorded)
            await asyncio.to_thread(end_sessions, database_url)
            await asyncio.sleep(0.05)
            await until(
                lambda before=before: len(recorded) > before
            )  # or else a slow machine would do nothing but connect

    cutting = asyncio.create_task(kill_all())
    await asyncio.gather(*(write(conversation) for conversation in range(8)))
    cutting.cancel()
    await asyncio.gather(cutting, return_exceptions=True)
    stored = {row[0] for row in rows(database_url, "SELECT position FROM events WHERE type = 'MessageAdded'")}
    assert len(recorded) == len(set(recorded))
    assert set(recorded) <= stored
    head = value(database_url, "SELECT position FROM head")
    assert value(database_url, "SELECT count(*) FROM events") == head


async def test_a_read_on_a_frozen_session_times_out(
    either_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(either_url)
    await database.open()
    try:
        assert await database.fetch("SELECT 1") == [(1,)]
        with frozen(session_pids(database_url)), monkeypatch.context() as hurried:
            hurried.setattr(database_module, "STATEMENT_TIMEOUT_S", 0.3)
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(StoreUnavailableError):
                    await database.fetch("SELECT 1")
        assert await database.fetch("SELECT 1") == [(1,)]
    finally:
        await database.close()


async def test_a_writer_replaces_a_frozen_session(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(Story().events)
    with frozen(session_pids(database_url)):
        with monkeypatch.context() as hurried:
            hurried.setattr(writer_module, "APPEND_TIMEOUT_S", 0.3)
            with pytest.raises(StoreUnavailableError):
                await store.append(Story().events)
        # The frozen session holds no lock yet, so another one can commit.
        assert await store.append(Story().events) == 2


async def test_a_connection_past_its_time_limit_is_aborted_and_its_descriptor_is_safe(either_url: str) -> None:
    database = Database(either_url)
    connection = await database.connect()
    number = connection.fileno()
    with pytest.raises(database_module.psycopg.OperationalError), time_limit(connection, 0.1):
        await connection.execute("SELECT pg_sleep(60)")
    others = [await database.connect() for _ in range(5)]
    try:
        assert number in {other.fileno() for other in others}
        await connection.close()
        for other in others:
            assert await (await other.execute("SELECT 1")).fetchone() == (1,)
    finally:
        for other in others:
            await other.close()


async def test_a_connection_within_its_time_limit_stays_open(either_url: str) -> None:
    async with await Database(either_url).connect() as connection:
        with time_limit(connection, 0.05):
            pass
        await asyncio.sleep(0.1)
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_an_unreachable_database_is_tried_by_one_caller_and_refused_to_all(
    store: Store, database_url: str
) -> None:
    assert await store.log.head() == 0
    store.database.conninfo = f"{store.database.conninfo} connect_timeout=1 host=127.0.0.1 port=1"
    end_sessions(database_url)
    store.database.mark_unreachable()
    outcomes = await asyncio.gather(*(store.log.head() for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}


async def test_tcp_sessions_have_keepalives(either_url: str) -> None:
    async with await Database(either_url).connect() as connection:
        names = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"]
        shown = [await (await connection.execute("SELECT current_setting(%s)", [name])).fetchone() for name in names]
    over_tcp = "host=127" in either_url
    assert [row and row[0] for row in shown] == (["10", "5", "3", "20000"] if over_tcp else ["0"] * 4)


async def test_an_exhausted_pool_is_not_reported_as_a_lost_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "POOL_TIMEOUT_S", 0.1)
    await started(store)
    await until(lambda: store.database.generation == 2)  # the connections of the writer and of the channels
    sleeps = [asyncio.create_task(store.database.fetch("SELECT pg_sleep(0.4)")) for _ in range(20)]
    outcomes = await asyncio.gather(*sleeps, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {list, StoreUnavailableError}
    assert store.database.generation == 2
    assert await store.log.head() == 1
