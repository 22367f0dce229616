"""The database that holds a log, with a pool and separate connections."""

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from time import monotonic
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from eventlog.background import cancel_and_wait
from eventlog.db.connection import (
    Connection,
    abort,
    is_lost,
    is_unavailable,
    preserve_cancellation,
    time_limit,
    translated_errors,
)
from eventlog.db.sessions import APPLY_SETTINGS, connection_parameters, session_settings
from eventlog.errors import StoreUnavailableError

CONNECT_TIMEOUT_S = 3
POOL_TIMEOUT_S = 3.0
POOL_SIZE = 8
STATEMENT_TIMEOUT_S = 6.0
"""The time limit of a statement of the pool, including its wait for a connection.

A request that waits so long for another one, and then finds the database unreachable, is still answered within 10 s.
"""
UNREACHABLE_FOR_S = 0.5
"""The pause in connection attempts after one that took long to fail."""

Statement = LiteralString | bytes

_log = logging.getLogger(__name__)
_LEAST_RETRY_S = 0.1


class PoolUse(NamedTuple):
    """The use of the pool: its connections, the idle ones, and the waiting callers.

    `limit` is the most connections that it opens.
    """

    size: int
    idle: int
    waiting: int
    limit: int


class Database:
    """One log's database, with a pool of connections for short statements."""

    def __init__(self, conninfo: str, schema: str = "turnlog") -> None:
        self.conninfo = conninfo
        self.schema = schema
        self.generation = 0
        """The number of times that caches of the log had to be cleared."""
        self._maybe_unreachable = False
        self._probe: asyncio.Task[bool] | None = None
        self._unreachable_until = 0.0
        self.given_up = False
        """Whether this process has stopped using the database, to end soon."""
        self._logged_cause: str | None = None
        self._forgetting: list[Callable[[], None]] = []
        self._busy: set[Connection] = set()
        self._returning: set[asyncio.Task[None]] = set()
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
        """Close the pool. The owners of connections made by `connect` close them."""
        if self._probe is not None:
            await cancel_and_wait([self._probe])
        self._abort_busy()
        await asyncio.gather(*self._returning, return_exceptions=True)
        await self._pool.close(timeout=0.0 if self.given_up else 5.0)  # its own tasks may be connecting

    async def give_up_if_unreachable(self) -> None:
        """Stop using a database that does not answer now, so that this process ends soon."""
        try:
            await (await self.connect()).close()
        except StoreUnavailableError:
            self.given_up = True
            self._abort_busy()  # a frozen server answers no cancel request

    def pool_use(self) -> PoolUse:
        """Return how the pool is used now."""
        stats = self._pool.get_stats()
        return PoolUse(
            stats.get("pool_size", 0), stats.get("pool_available", 0), stats.get("requests_waiting", 0), POOL_SIZE
        )

    def _abort_busy(self) -> None:
        for connection in self._busy:
            abort(connection)

    async def connect(self, *, durable: bool = False) -> Connection:
        """Return a connection for the caller alone.

        It is in autocommit and UTC, with the log's schema first. Only a `durable` one waits for the disk at each
        commit. The others write read models, snapshots and notifications: data that can be rebuilt from the log, or
        that is lost together with the position that counts it.

        Raises:
            StoreUnavailableError: the database does not answer within 3 s, or did not just before.
        """
        if self.given_up or monotonic() < self._unreachable_until:
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
            self._maybe_unreachable = True
            if deadline - monotonic() < CONNECT_TIMEOUT_S / 2:
                # Other callers get a quick refusal instead of the same long wait.
                self._unreachable_until = monotonic() + UNREACHABLE_FOR_S
            # asyncio's error has no text, which a log would show.
            late = TimeoutError(f"no connection within {CONNECT_TIMEOUT_S} s")
            cause = late if isinstance(error, TimeoutError) else error.__cause__ or error
            raise StoreUnavailableError("The store does not answer.") from cause
        return connection

    async def connect_to_log(self, *, durable: bool = False) -> Connection:
        """Begin a new generation: clear all caches, and return a connection for the log.

        The caller follows or writes the log with it.

        Raises:
            StoreUnavailableError: as `connect` does.
        """
        connection = await self.connect(durable=durable)
        # A failover or a restore ends every connection, and the log may then lack its last events.
        self.generation += 1
        for forget in self._forgetting:
            forget()
        return connection

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        """Return all rows of a statement that is safe to run twice.

        It runs again, once, where the connection was lost, as all pooled connections are after a restart.

        Raises:
            StoreUnavailableError: the database does not answer within 6 s.
        """
        deadline = monotonic() + STATEMENT_TIMEOUT_S
        with preserve_cancellation(), _all_errors_unavailable():
            if self._maybe_unreachable:
                await self._require_reachable(deadline)
            try:
                return await self._fetch(statement, parameters, deadline)
            except psycopg.Error as error:
                if not is_lost(error):
                    raise
                self._maybe_unreachable = True
                if monotonic() > deadline - _LEAST_RETRY_S:
                    raise
            await self._require_reachable(deadline)
            return await self._fetch(statement, parameters, deadline)

    async def fetch_one(
        self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> TupleRow | None:
        """Return the first row of a statement that is safe to run twice, None without one.

        Raises:
            StoreUnavailableError: the database does not answer within 6 s.
        """
        rows = await self.fetch(statement, parameters)
        return rows[0] if rows else None

    def mark_unreachable(self) -> None:
        """Record that the database did not answer.

        The next statement first checks that it can be reached.
        """
        self._maybe_unreachable = True

    def on_new_generation(self, forget: Callable[[], None]) -> None:
        """Call `forget` when a generation begins, before its connection is used."""
        self._forgetting.append(forget)

    def _parameters(self) -> dict[str, Any]:
        return {
            **connection_parameters(self.conninfo, CONNECT_TIMEOUT_S),
            "prepare_threshold": 0,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
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
        connection = await self._pool.getconn(timeout=min(POOL_TIMEOUT_S, left_s))
        try:
            if self.given_up:
                raise StoreUnavailableError("The store does not answer.")
            self._busy.add(connection)
            with time_limit(connection, deadline - monotonic()):
                cursor = await connection.execute(statement, parameters, binary=True)
                return await cursor.fetchall() if cursor.description else []
        finally:
            self._busy.discard(connection)
            await self._give_back(connection)

    async def _give_back(self, connection: Connection) -> None:
        # In a task of its own: the pool loses a connection whose return is cancelled.
        returning = asyncio.create_task(self._pool.putconn(connection), name="return-connection", context=Context())
        self._returning.add(returning)
        returning.add_done_callback(self._returning.discard)
        await asyncio.shield(returning)

    async def _require_reachable(self, deadline: float) -> None:
        """Replace the pool's connections, if the database can be reached.

        All callers share one attempt. After it failed, a short pause follows without another.

        Raises:
            StoreUnavailableError: the database cannot be reached.
        """
        if self.given_up or monotonic() < self._unreachable_until:
            raise StoreUnavailableError("The store does not answer.")
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._reach(), name="reach-database", context=Context())
        await asyncio.wait([self._probe], timeout=deadline - monotonic())
        if not self._probe.done() or self._probe.cancelled() or not self._probe.result():
            raise StoreUnavailableError("The store does not answer.")

    async def _reach(self) -> bool:
        try:
            await (await self.connect()).close()
            self._maybe_unreachable = False
            await self._pool.drain()
        except (StoreUnavailableError, psycopg.Error) as error:
            cause = str(error.__cause__ or error)
            if cause != self._logged_cause:
                _log.warning("the database cannot be reached: %s", cause)
            self._logged_cause = cause
            return False
        self._logged_cause = None
        return True


@contextmanager
def _all_errors_unavailable() -> Generator[None]:
    """Raise StoreUnavailableError for every error of PostgreSQL."""
    # A lasting one, such as a missing table, is a fault of the store too, and not of the request.
    try:
        yield
    except psycopg.Error as error:
        if not is_unavailable(error):
            _log.error("PostgreSQL refuses a statement: %s", error)
        raise StoreUnavailableError("The store does not answer.") from error
