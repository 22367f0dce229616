"""One connection to PostgreSQL: its liveness, time limits and errors."""

import asyncio
import os
import select
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import PoolTimeout

from eventlog.errors import StoreUnavailableError

Connection = AsyncConnection[TupleRow]

# Read-only transaction, serialization failure, deadlock, lock not available.
_RETRYABLE_STATES = ("25006", "40001", "40P01", "55P03")
# Connection, resources, operator intervention, system error, internal error.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58", "XX")
_LOST_CLASSES = ("08", "57P")
_LIVENESS_TIMEOUT_S = 1.0


def is_unavailable(error: BaseException) -> bool:
    """Return whether the store cannot serve this now, but may do so later.

    The database is unreachable, shutting down, read-only, damaged or out of disk, memory or connections, or a
    transaction conflicts with this one. An error with a SQLSTATE is judged by that alone.
    """
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate in _RETRYABLE_STATES or error.sqlstate.startswith(_UNAVAILABLE_CLASSES)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | StoreUnavailableError)


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection broke, so that a new one may succeed."""
    # A timeout of a busy pool says nothing about the connection.
    if isinstance(error, PoolTimeout) or not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_LOST_CLASSES)


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise StoreUnavailableError in place of errors that `is_unavailable`."""
    try:
        yield
    except psycopg.Error as error:
        if not is_unavailable(error):
            raise
        raise StoreUnavailableError("The store does not answer.") from error


@contextmanager
def time_limit(connection: Connection, seconds: float) -> Generator[None]:
    """Abort the connection unless the block ends within so many seconds.

    A caller that waits for the connection then gets psycopg.OperationalError at once.
    """
    # psycopg's own cancelling would wait for another ten seconds, because a frozen server answers no cancel request.
    timer = asyncio.get_running_loop().call_later(seconds, abort, connection)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def preserve_cancellation() -> Generator[None]:
    """Raise CancelledError after the block if the task was cancelled in it."""
    # Before Python 3.12, asyncio.wait_for, which psycopg and its pool use, loses a cancellation that arrives together
    # with the result.
    task = asyncio.current_task()
    requests = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > requests:
            raise asyncio.CancelledError


def abort(connection: Connection) -> None:
    """Shut the socket down, so that libpq finds the connection broken and closes it."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


async def is_alive(connection: Connection) -> bool:
    """Return whether an idle connection still works."""
    if connection.closed:
        return False
    # Unread input on an idle connection is a notice or the end of the session, and only then is the server asked.
    if not _has_input(connection):
        return True
    try:
        with time_limit(connection, _LIVENESS_TIMEOUT_S):
            await connection.execute(b"")
    except psycopg.Error:
        return False
    return True


def _has_input(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
