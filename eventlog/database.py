"""Connections to the database that holds a log, and the one place that translates psycopg's errors."""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from eventlog.connection import WatchedConnection
from eventlog.errors import StoreUnavailableError

CONNECT_TIMEOUT_S = 3
POOL_TIMEOUT_S = 3.0
POOL_SIZE = 8

Statement = LiteralString | bytes


@contextmanager
def translated_errors() -> Generator[None]:
    """Turn the errors of a database that is gone, full or shutting down into StoreUnavailableError."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise StoreUnavailableError("The store does not answer.") from error


class Database:
    """One log's database: its address, its schema, and a pool of connections for reading."""

    def __init__(self, conninfo: str, schema: str = "turnlog") -> None:
        self.conninfo = conninfo
        self.schema = schema
        self._in_doubt = False
        self._pool: AsyncConnectionPool[WatchedConnection] = AsyncConnectionPool(
            conninfo,
            connection_class=WatchedConnection,
            kwargs=self.settings(),
            min_size=1,
            max_size=POOL_SIZE,
            timeout=POOL_TIMEOUT_S,
            reconnect_timeout=10.0,
            open=False,
        )

    def settings(self, *, durable: bool = False) -> dict[str, Any]:
        """Return how each connection is to be made: its log's schema first, UTC, one statement a transaction.

        Only a `durable` one waits for the disk at each commit. What the others write (read models, snapshots, news)
        can be made again from the log, or is lost together with the position that says how far it was made.
        """
        relaxed = "" if durable else " -c synchronous_commit=off"
        return {
            "autocommit": True,
            "prepare_threshold": 0,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "turnlog",
            "client_encoding": "utf8",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": f"-c search_path={self.schema} -c timezone=UTC{relaxed}",
        }

    async def open(self) -> None:
        """Open the pool.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with translated_errors():
            await self._pool.open(wait=True, timeout=CONNECT_TIMEOUT_S * 2)

    async def close(self) -> None:
        """Close the pool; connections made by `connect` are their owners' to close."""
        await self._pool.close()

    async def connect(self, *, durable: bool = False) -> WatchedConnection:
        """Return a connection of the caller's own.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with translated_errors():
            return await WatchedConnection.connect(self.conninfo, **self.settings(durable=durable))

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[WatchedConnection]:
        """Lend a pooled connection.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        with translated_errors():
            async with self._pool.connection() as connection:
                yield connection

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        """Return all rows of a reading statement; connections that a restart broke are replaced on the way.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        if self._in_doubt:
            await self._make_sure()
        try:
            return await self._fetch(statement, parameters)
        except StoreUnavailableError:
            self._in_doubt = True
            await self._make_sure()
            return await self._fetch(statement, parameters)

    async def _fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any]) -> list[TupleRow]:
        async with self.connection() as connection:
            cursor = await connection.execute(statement, parameters, binary=True)
            return await cursor.fetchall()

    async def _make_sure(self) -> None:
        """Fail at once, without waiting for the pool, while the database is away; then replace what it broke."""
        await (await self.connect()).close()
        await self._pool.check()
        self._in_doubt = False

    async def fetch_one(
        self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> TupleRow | None:
        """Return the first row of a reading statement, None without one.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        rows = await self.fetch(statement, parameters)
        return rows[0] if rows else None
