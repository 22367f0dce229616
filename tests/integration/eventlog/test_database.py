"""A task that waits for a statement can be cancelled at any moment."""

import asyncio

from eventlog.db.database import POOL_SIZE, Database

ROUNDS = 60
TASKS = 4 * POOL_SIZE


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


async def _read_twice(database: Database) -> None:
    await database.fetch("SELECT 1")
    await database.fetch("SELECT pg_sleep(0.0005)")
