"""Connections to the database that holds a log, their time limits, and the translation of psycopg's errors."""

import asyncio
import logging
import math
import os
import select
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from eventlog.errors import StoreUnavailableError
from eventlog.sessions import APPLY_SETTINGS, session_settings, startup_parameters

CONNECT_TIMEOUT_S = 3
POOL_TIMEOUT_S = 3.0
POOL_SIZE = 8
STATEMENT_TIMEOUT_S = 6.0
"""How long a statement of the pool may take, with its wait for a connection.

A request that waited so long for another one, and then finds that the database cannot be reached, is answered in 10 s.
"""
UNREACHABLE_FOR_S = 0.5
"""How long no connection is tried after one took long to fail."""

Statement = LiteralString | bytes
Connection = AsyncConnection[TupleRow]

_log = logging.getLogger(__name__)
# Read-only; a serialization failure, a deadlock, a lock that is held for too long.
_ANOTHER_TIME = ("25006", "40001", "40P01", "55P03")
_CANNOT_NOW = ("08", "53", "57", "58", "XX")
_LOST = ("08", "57P")
_LIVENESS_TIMEOUT_S = 1.0
_LEAST_RETRY_S = 0.1


def cannot_now(error: BaseException) -> bool:
    """Return whether the store cannot do now what it was asked to do, whatever that was.

    It is away, ending, read-only, out of disk, memory or connections, damaged, or another transaction is in the way.
    SQLSTATE decides, where there is one: by its classes 08, 53, 57, 58 and XX, or as a whole.
    """
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate in _ANOTHER_TIME or error.sqlstate.startswith(_CANNOT_NOW)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | StoreUnavailableError)


@contextmanager
def translated_errors() -> Generator[None]:
    """Raise StoreUnavailableError in place of an error that says that the store cannot do this now."""
    try:
        yield
    except psycopg.Error as error:
        if not cannot_now(error):
            raise
        raise StoreUnavailableError("The store does not answer.") from error


@contextmanager
def time_limit(connection: Connection, seconds: float) -> Generator[None]:
    """Break the connection off unless the block ends within so many seconds.

    What waits for the connection then gets psycopg.OperationalError at once. A server that is frozen answers no
    cancel request either, so psycopg's own cancelling would wait for another ten seconds.
    """
    timer = asyncio.get_running_loop().call_later(seconds, break_off, connection)
    try:
        yield
    finally:
        timer.cancel()


def break_off(connection: Connection) -> None:
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


class Database:
    """One log's database: its address, its schema, and a pool of connections for short statements."""

    def __init__(self, conninfo: str, schema: str = "turnlog") -> None:
        self.conninfo = conninfo
        self.schema = schema
        self.generation = 0
        """How often what is remembered of the log had to be forgotten."""
        self._in_doubt = False
        self._probe: asyncio.Task[bool] | None = None
        self._unreachable_until = 0.0
        self._forgetting: list[Callable[[], None]] = []
        self._busy: set[Connection] = set()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo,
            kwargs=self._parameters(),
            configure=self._configure,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=POOL_TIMEOUT_S,
            reconnect_timeout=10.0,
            open=False,
        )

    async def open(self) -> None:
        """Open the pool.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with translated_errors():
            await self._pool.open(wait=True, timeout=CONNECT_TIMEOUT_S * 2)

    async def close(self) -> None:
        """Close the pool. Connections made by `connect` are closed by their owners."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        self._break_off()
        await self._pool.close()

    async def give_up_if_away(self) -> None:
        """Ask a database that does not answer now nothing more, so that this process ends soon.

        A server that is frozen answers no cancel request either, so statements under way are broken off.
        """
        try:
            await (await self.connect()).close()
        except StoreUnavailableError:
            self._unreachable_until = math.inf
            self._break_off()

    def _break_off(self) -> None:
        for connection in self._busy:
            break_off(connection)

    async def connect(self, *, durable: bool = False) -> Connection:
        """Return a connection of the caller's own: autocommit, the log's schema first, UTC.

        Only a `durable` one waits for the disk at each commit. What the others write (read models, snapshots,
        notifications) can be made again from the log, or is lost together with the position that counts it.

        Raises:
            StoreUnavailableError: the database does not answer within 3 s, or did not a moment ago.
        """
        if monotonic() < self._unreachable_until:
            raise StoreUnavailableError("The store does not answer.")
        deadline = monotonic() + CONNECT_TIMEOUT_S
        try:
            with translated_errors():
                # libpq's own limit holds for each address of the host.
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    connection = await AsyncConnection.connect(self.conninfo, **self._parameters())
                try:
                    await self._set_up(connection, durable=durable, seconds=deadline - monotonic())
                except BaseException:
                    await connection.close()
                    raise
        except (StoreUnavailableError, TimeoutError) as error:
            self._in_doubt = True
            if deadline - monotonic() < CONNECT_TIMEOUT_S / 2:
                # It took long to find out. Others need not, and a quick refusal costs them little.
                self._unreachable_until = monotonic() + UNREACHABLE_FOR_S
            raise StoreUnavailableError("The store does not answer.") from (error.__cause__ or error)
        return connection

    async def connect_anew(self, *, durable: bool = False) -> Connection:
        """Return a connection that is to follow or to write the log, after everything remembered of it was forgotten.

        The log may have lost its end: a failover or a restore ends every connection first.

        Raises:
            StoreUnavailableError: as `connect` does.
        """
        connection = await self.connect(durable=durable)
        self.generation += 1
        for forget in self._forgetting:
            forget()
        return connection

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        """Return all rows of a statement that may run twice: it reads, or a repetition changes nothing.

        It is repeated once where the connection was broken, as all pooled connections are after a restart.

        Raises:
            StoreUnavailableError: the database does not answer within 6 s.
        """
        deadline = monotonic() + STATEMENT_TIMEOUT_S
        with _refused_is_unavailable():
            if self._in_doubt:
                await self._require_reachable(deadline)
            try:
                return await self._fetch(statement, parameters, deadline)
            except psycopg.Error as error:
                if not _is_lost(error):
                    raise
                self._in_doubt = True
                if monotonic() > deadline - _LEAST_RETRY_S:
                    raise
            await self._require_reachable(deadline)
            return await self._fetch(statement, parameters, deadline)

    async def fetch_one(
        self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> TupleRow | None:
        """Return the first row of a statement that may run twice, None without one.

        Raises:
            StoreUnavailableError: the database does not answer within 6 s.
        """
        rows = await self.fetch(statement, parameters)
        return rows[0] if rows else None

    def doubt(self) -> None:
        """Say that the database did not answer. The next statement first finds out whether it can be reached."""
        self._in_doubt = True

    def on_reconnect(self, forget: Callable[[], None]) -> None:
        """Call `forget` whenever a connection is made by `connect_anew`, before anything is read on it."""
        self._forgetting.append(forget)

    def _parameters(self) -> dict[str, Any]:
        return {
            "autocommit": True,
            "prepare_threshold": 0,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            **startup_parameters(self.conninfo),
        }

    async def _configure(self, connection: Connection) -> None:
        await self._set_up(connection, durable=False, seconds=CONNECT_TIMEOUT_S)

    async def _set_up(self, connection: Connection, *, durable: bool, seconds: float) -> None:
        settings = session_settings(self.schema, synchronous_commit="on" if durable else "off")
        with time_limit(connection, seconds):
            await connection.execute(APPLY_SETTINGS, settings, prepare=False)

    async def _fetch(
        self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any], deadline: float
    ) -> list[TupleRow]:
        left_s = deadline - monotonic()
        async with self._pool.connection(timeout=min(POOL_TIMEOUT_S, left_s)) as connection:
            self._busy.add(connection)
            try:
                with time_limit(connection, deadline - monotonic()):
                    cursor = await connection.execute(statement, parameters, binary=True)
                    return await cursor.fetchall() if cursor.description else []
            finally:
                self._busy.discard(connection)

    async def _require_reachable(self, deadline: float) -> None:
        """Replace the pool's connections if the database can be reached, else raise StoreUnavailableError.

        All callers wait for one attempt, and for a moment after it failed nobody makes another.
        """
        if monotonic() < self._unreachable_until:
            raise StoreUnavailableError("The store does not answer.")
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._reach(), name="reach-database")
        await asyncio.wait([self._probe], timeout=deadline - monotonic())
        if not self._probe.done() or self._probe.cancelled() or not self._probe.result():
            raise StoreUnavailableError("The store does not answer.")

    async def _reach(self) -> bool:
        try:
            await (await self.connect()).close()
            self._in_doubt = False
            await self._pool.drain()
        except (StoreUnavailableError, psycopg.Error) as error:
            _log.warning("the database cannot be reached: %s", error.__cause__ or error)
            return False
        return True


@contextmanager
def _refused_is_unavailable() -> Generator[None]:
    """Raise StoreUnavailableError for every refusal: also one that lasts, such as a missing table, is the store's."""
    try:
        yield
    except psycopg.Error as error:
        if not cannot_now(error):
            _log.error("PostgreSQL refuses a statement: %s", error)
        raise StoreUnavailableError("The store does not answer.") from error


def _is_lost(error: psycopg.Error) -> bool:
    """Return whether the connection broke, so that another one may do better. A busy pool is no such case."""
    if isinstance(error, PoolTimeout) or not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_LOST)


def _has_input(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
