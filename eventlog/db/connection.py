"""One connection to PostgreSQL: whether it is alive, how long it may take, and what its errors mean."""

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

# Read-only; a serialization failure, a deadlock, a lock that is held for too long.
_ANOTHER_TIME = ("25006", "40001", "40P01", "55P03")
_CANNOT_NOW = ("08", "53", "57", "58", "XX")
_LOST = ("08", "57P")
_LIVENESS_TIMEOUT_S = 1.0


def is_unavailable(error: BaseException) -> bool:
    """Return whether the store cannot do now what it was asked to do, whatever that was.

    It is away, ending, read-only, out of disk, memory or connections, damaged, or another transaction is in the way.
    SQLSTATE decides, where there is one: by its classes 08, 53, 57, 58 and XX, or as a whole.
    """
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate in _ANOTHER_TIME or error.sqlstate.startswith(_CANNOT_NOW)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | StoreUnavailableError)


def is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection broke, so that another one may do better. A busy pool is no such case."""
    if isinstance(error, PoolTimeout) or not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_LOST)


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise StoreUnavailableError in place of an error that says that the store cannot do this now."""
    try:
        yield
    except psycopg.Error as error:
        if not is_unavailable(error):
            raise
        raise StoreUnavailableError("The store does not answer.") from error


@contextmanager
def time_limit(connection: Connection, seconds: float) -> Generator[None]:
    """Break the connection off unless the block ends within so many seconds.

    What waits for the connection then gets psycopg.OperationalError at once. A server that is frozen answers no
    cancel request either, so psycopg's own cancelling would wait for another ten seconds.
    """
    timer = asyncio.get_running_loop().call_later(seconds, abort, connection)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def preserve_cancellation() -> Generator[None]:
    """Raise CancelledError at the end of the block if the task was cancelled during it.

    Before Python 3.12, asyncio.wait_for loses a cancellation that arrives together with the result it waits for, and
    psycopg and its pool wait with it.
    """
    task = asyncio.current_task()
    requests = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > requests:
            raise asyncio.CancelledError


def abort(connection: Connection) -> None:
    """Shut the socket down, so that libpq finds the connection broken and closes it by itself."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


async def is_alive(connection: Connection) -> bool:
    """Return whether the server has not ended an idle connection.

    The server is asked only where something came unasked: a notice, or the end of the session.
    """
    if connection.closed:
        return False
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
