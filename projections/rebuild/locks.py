"""Freezing the live builds of a projection for the milliseconds of a switch, and waiting for locks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from psycopg import errors

from eventlog.db.database import Database
from projections.builds import SQL, Build, Connection
from projections.errors import BuildInterruptedError
from projections.projection import Projection

LOCK_ATTEMPTS = 120
LOCK_PAUSE_S = 0.3

T = TypeVar("T")


@asynccontextmanager
async def frozen_live_builds(
    database: Database, projection: Projection
) -> AsyncGenerator[tuple[Connection, list[Build]]]:
    """Let what is read of a projection, in any version, stand still for the few milliseconds of the block.

    Yields the connection whose transaction holds it, and the builds that are read.
    """
    async with await database.connect() as holder, holder.transaction():
        await holder.execute(SQL["limit_lock_wait"])
        cursor = await holder.execute(SQL["lock_live"], [projection.name])
        yield holder, [Build(*row) for row in await cursor.fetchall()]


async def retry_on_lock_timeout(projection: Projection, work: Callable[[], Awaitable[T]]) -> T:
    """Do what needs locks; as long as somebody holds one of them, let all others go on and try again.

    Raises:
        BuildInterruptedError: it is held for too long.
    """
    for _ in range(LOCK_ATTEMPTS):
        try:
            return await work()
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            await asyncio.sleep(LOCK_PAUSE_S)
    raise BuildInterruptedError(f"Somebody holds a lock on what is read of {projection.name}; try again later.")
