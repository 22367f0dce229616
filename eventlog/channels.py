"""News between processes: coalesced NOTIFY on one side, LISTEN on the other; a hint to look, never the truth itself."""

import asyncio
from collections.abc import Callable
from weakref import WeakSet

import orjson
from psycopg import sql

from eventlog.background import Background
from eventlog.db.connection import Connection, abort, time_limit, translated_errors
from eventlog.db.database import STATEMENT_TIMEOUT_S, Database
from eventlog.db.prepared import execute_prepared
from eventlog.db.statements import load_statements

POLL_INTERVAL_S = 1.0
ANNOUNCE_INTERVAL_S = 0.01

_NOTIFY = load_statements("eventlog", "log.sql")["notify"]
_PREPARED_NOTIFY = _NOTIFY.replace("%s", "$1").encode()


class Channels:
    """One process's ear and voice on the log's channels; a channel's name is the log's schema and a topic.

    Announcements of one topic that wait are merged into one. A handler hears every announcement of its
    topic, also this process's own, and None each time something may have been missed: after a connection was made
    and after every second of silence. It is quick and does not raise.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handlers: dict[str, Callable[[str | None], None]] = {}
        self._news: dict[str, Callable[[], str]] = {}
        self._wake = asyncio.Event()
        self._background = Background()
        self._connections: WeakSet[Connection] = WeakSet()
        database.on_reconnect(self._news.clear)  # it tells positions that the log may have lost

    def on(self, topic: str, handler: Callable[[str | None], None]) -> None:
        """Let `handler` hear what is announced on `topic`; to be called before `open`."""
        self._handlers[topic] = handler

    def on_reconnect(self, forget: Callable[[], None]) -> None:
        """Call `forget` whenever what is remembered of the log may be ahead of it (see `Database.on_reconnect`)."""
        self._database.on_reconnect(forget)

    def announce(self, topic: str, news: Callable[[], str]) -> None:
        """Tell all processes, this one included, soon; newer news of the same topic replaces what waits.

        `news` is asked when it is told, so that nobody words what is not; it does not raise.
        """
        self._news[topic] = news
        self._wake.set()

    async def tell(self, topic: str, payload: str) -> None:
        """Tell all processes, this one included, now; nothing is merged with it.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        await self._database.fetch(_NOTIFY, [self._payloads({topic: payload}).decode()])

    async def open(self) -> None:
        """Start to listen and to announce."""
        self._background.keep("listen", self._keep_listening)
        self._background.keep("announce", self._keep_announcing)

    async def close(self) -> None:
        """Stop. Other processes find what was not announced yet by polling."""
        for connection in self._connections if self._database.given_up else ():
            abort(connection)
        await self._background.close()

    async def _keep_listening(self) -> None:
        async with await self._database.reconnect() as connection:
            self._connections.add(connection)
            with translated_errors():
                await self._listen(connection)

    async def _keep_announcing(self) -> None:
        async with await self._database.connect() as connection:
            self._connections.add(connection)
            with translated_errors():
                await self._speak(connection)

    async def _listen(self, connection: Connection) -> None:
        topics = {f"{self._database.schema}_{topic}": handler for topic, handler in self._handlers.items()}
        with time_limit(connection, STATEMENT_TIMEOUT_S):
            for channel in topics:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        while True:
            for handler in topics.values():
                handler(None)
            async for notification in connection.notifies(timeout=POLL_INTERVAL_S):
                topics[notification.channel](notification.payload)

    async def _speak(self, connection: Connection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            news = dict(self._news)
            self._news.clear()
            payloads = self._payloads({topic: ask() for topic, ask in news.items()})
            with time_limit(connection, STATEMENT_TIMEOUT_S):
                await execute_prepared(connection, _PREPARED_NOTIFY, payloads)
            await asyncio.sleep(ANNOUNCE_INTERVAL_S)

    def _payloads(self, news: dict[str, str]) -> bytes:
        """Return the payload for each channel as the statement takes them, one JSON object."""
        return orjson.dumps({f"{self._database.schema}_{topic}": payload for topic, payload in news.items()})
