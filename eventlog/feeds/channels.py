"""Notifications between processes, by PostgreSQL's LISTEN and NOTIFY.

A notification is a hint to read the log. It can be lost, so subscribers also poll.
"""

import asyncio
from collections.abc import Callable
from weakref import WeakSet

import orjson
from psycopg import sql

from eventlog.background import Background
from eventlog.db.connection import Connection, abort, time_limit, translated_errors
from eventlog.db.database import STATEMENT_TIMEOUT_S, Database
from eventlog.db.prepared import execute_prepared
from eventlog.db.statements import load_statements, numbered

POLL_INTERVAL_S = 1.0
NOTIFY_INTERVAL_S = 0.01

_NOTIFY = load_statements("eventlog", "log.sql")["notify"]
_PREPARED_NOTIFY, _ = numbered(_NOTIFY)


class Channels:
    """Sends and receives the notifications of one process on the channels of a log.

    A channel's name is the log's schema and a topic. A subscriber gets the payload of each notification of its topic,
    also of those that this process sends. It gets None when notifications may have been missed: after a connection was
    made, and after each second without one. It is quick and does not raise.
    """

    def __init__(self, database: Database) -> None:
        self.is_open = False
        """Whether notifications are sent and received."""
        self._database = database
        self._subscribers: dict[str, Callable[[str | None], None]] = {}
        self._waiting: dict[str, Callable[[], str]] = {}
        self._wake = asyncio.Event()
        self._background = Background()
        self._connections: WeakSet[Connection] = WeakSet()
        # The log may have lost the positions that waiting notifications name.
        database.on_new_generation(self._waiting.clear)

    def subscribe(self, topic: str, subscriber: Callable[[str | None], None]) -> None:
        """Call `subscriber` with the notifications of `topic`. Call this before `open`."""
        self._subscribers[topic] = subscriber

    def on_new_generation(self, forget: Callable[[], None]) -> None:
        """Call `forget` when the log may have lost its newest events."""
        self._database.on_new_generation(forget)

    def notify_soon(self, topic: str, payload: Callable[[], str]) -> None:
        """Notify all processes, this one included, soon.

        A waiting notification of the topic is replaced.

        `payload` is called at send time and does not raise.
        """
        # Replaced notifications are never serialised.
        self._waiting[topic] = payload
        self._wake.set()

    async def notify(self, topic: str, payload: str) -> None:
        """Notify all processes, this one included, now.

        This notification is not coalesced with others.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        await self._database.fetch(_NOTIFY, {"payloads": _payloads(self._database.schema, {topic: payload}).decode()})

    async def open(self) -> None:
        """Start to send and to receive."""
        self.is_open = True
        self._background.keep("listen", self._keep_listening)
        self._background.keep("notify", self._keep_notifying)

    async def close(self) -> None:
        """Stop.

        Waiting notifications are dropped, and other processes find the events by polling.
        """
        self.is_open = False
        for connection in self._connections if self._database.given_up else ():
            abort(connection)
        await self._background.close()

    async def _keep_listening(self) -> None:
        async with await self._database.connect_to_log() as connection:
            self._connections.add(connection)
            with translated_errors():
                await self._listen(connection)

    async def _keep_notifying(self) -> None:
        async with await self._database.connect() as connection:
            self._connections.add(connection)
            with translated_errors():
                await self._send(connection)

    async def _listen(self, connection: Connection) -> None:
        subscribers = {f"{self._database.schema}_{topic}": each for topic, each in self._subscribers.items()}
        with time_limit(connection, STATEMENT_TIMEOUT_S):
            for channel in subscribers:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        while True:
            for subscriber in subscribers.values():
                subscriber(None)
            async for notification in connection.notifies(timeout=POLL_INTERVAL_S):
                subscribers[notification.channel](notification.payload)

    async def _send(self, connection: Connection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting = dict(self._waiting)
            self._waiting.clear()
            payloads = _payloads(self._database.schema, {topic: payload() for topic, payload in waiting.items()})
            with time_limit(connection, STATEMENT_TIMEOUT_S):
                await execute_prepared(connection, _PREPARED_NOTIFY, payloads)
            await asyncio.sleep(NOTIFY_INTERVAL_S)


async def notify_through(connection: Connection, schema: str, topic: str, payload: str) -> None:
    """Notify all processes of a log now, through a connection of the caller."""
    await connection.execute(_NOTIFY, {"payloads": _payloads(schema, {topic: payload}).decode()})


def _payloads(schema: str, payloads: dict[str, str]) -> bytes:
    """Return the payload of each channel as one JSON object."""
    return orjson.dumps({f"{schema}_{topic}": payload for topic, payload in payloads.items()})
