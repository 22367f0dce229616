"""Statements can be cancelled at any moment, and outages are logged."""

import asyncio
import logging
import socket

import pytest
from psycopg.conninfo import make_conninfo

from eventlog.db import database as database_module
from eventlog.db.database import POOL_SIZE, Database
from eventlog.errors import StoreUnavailableError
from tests.support.store import until

ROUNDS = 60
TASKS = 4 * POOL_SIZE
CANCELLATIONS = 100
"""The cancellations by each of twelve tasks. One in a hundred hits the return of a connection."""
MOST_STEPS = 12


async def test_a_task_that_is_cancelled_as_its_statement_ends_is_cancelled(database_url: str) -> None:
    """Cancel at the moment of the result.

    Before Python 3.12, asyncio.wait_for may lose a cancellation that comes together with the result.
    """
    database = Database(database_url)
    await database.open()
    loop = asyncio.get_running_loop()
    lost = 0
    try:
        for _ in range(ROUNDS):
            tasks = [asyncio.create_task(_read_twice(database)) for _ in range(TASKS)]
            for n, task in enumerate(tasks[::2]):
                loop.call_later(n / TASKS * 0.02, task.cancel)
            await asyncio.wait(tasks)
            lost += sum(task.cancelling() > 0 and not task.cancelled() for task in tasks)
    finally:
        await database.close()
    assert lost == 0


async def test_cancelled_statements_lose_no_connection_of_the_pool(database_url: str) -> None:
    """Cancel at every moment, while other tasks use the pool.

    psycopg's pool forgets a connection whose return is cancelled. After eight of them it would serve nobody.
    """
    database = Database(database_url)
    await database.open()

    async def cancel_and_read(first: int) -> None:
        for steps in range(first, first + CANCELLATIONS):
            task = asyncio.create_task(database.fetch("SELECT 1"))
            for _ in range(steps % MOST_STEPS):
                await asyncio.sleep(0)
            await asyncio.sleep(steps % 3 / 1000)
            task.cancel()
            await asyncio.wait([task])
            await database.fetch("SELECT 1")

    try:
        await asyncio.gather(*(cancel_and_read(first) for first in range(POOL_SIZE + 4)))
        await until(lambda: (use := database.pool_use()).idle == use.size)
    finally:
        await database.close()


async def _read_twice(database: Database) -> None:
    await database.fetch("SELECT 1")
    await database.fetch("SELECT pg_sleep(0.0005)")


async def test_a_database_that_takes_no_connections_is_logged_once_with_the_cause(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database_module, "CONNECT_TIMEOUT_S", 1)
    monkeypatch.setattr(database_module, "UNREACHABLE_FOR_S", 0.0)
    caplog.set_level(logging.WARNING, database_module.__name__)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Database(make_conninfo(database_url, host="127.0.0.1", port=port))
        database.mark_unreachable()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await database.fetch("SELECT 1")
        await database.close()
    assert [record.message for record in caplog.records if record.name == database_module.__name__] == [
        "the database cannot be reached: no connection within 1 s"
    ]
