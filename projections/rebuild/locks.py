"""Locks of a switch: freezing the live builds, and retrying on a timeout."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import repeat
from typing import TypeVar

from psycopg import errors

from eventlog.db.connection import Connection
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.retry import retry
from projections.builds import Build, find_builds
from projections.errors import BuildInterruptedError
from projections.projection import Projection

LOCK_ATTEMPTS = 120
LOCK_PAUSE_S = 0.3

_SQL = load_statements("projections.rebuild", "locks.sql")

T = TypeVar("T")


@asynccontextmanager
async def frozen_live_builds(
    database: Database, projection: Projection
) -> AsyncGenerator[tuple[Connection, list[Build]]]:
    """Freeze the positions of a projection's live builds for the block.

    Yield the connection whose transaction holds the row locks, and the live builds.
    """
    async with await database.connect() as holder, holder.transaction():
        await holder.execute(_SQL["limit_lock_wait"])
        cursor = await holder.execute(_SQL["lock_live"], {"name": projection.name})
        locked = await cursor.fetchall()
        every = await find_builds(holder, projection.name)
        yield holder, [build for build in every if (build.version, build.build) in locked]


async def retry_on_lock_timeout(projection: Projection, work: Callable[[], Awaitable[T]]) -> T:
    """Call `work` until no other transaction holds a lock that it needs.

    Raises:
        BuildInterruptedError: the lock is held for too long.
    """
    # Between two attempts the transactions that wait for this one go on.
    locked = (errors.LockNotAvailable, errors.DeadlockDetected)
    try:
        return await retry(work, locked, repeat(LOCK_PAUSE_S, LOCK_ATTEMPTS - 1))
    except locked as error:
        raise BuildInterruptedError(
            f"Another transaction holds a lock on the live build of {projection.name}; try again later."
        ) from error
