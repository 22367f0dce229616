"""The limit of an owner's open streams.

Each open stream has a row in PostgreSQL, which its process renews. The rows of a process that died expire.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import LimitReachedError
from eventlog.background import Background
from eventlog.clock import new_id
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import StoreUnavailableError
from eventlog.lock_table import LockTable

SLOT_S = 15.0
RENEW_INTERVAL_S = 5.0
RETRY_AFTER_S = 1

_SQL = load_statements("api.limits", "limits.sql")
_log = logging.getLogger(__name__)


class StreamLimit:
    """Lets an owner have at most `at_most` streams open."""

    def __init__(self, database: Database, at_most: int) -> None:
        self._database = database
        self._at_most = at_most
        self._holder = new_id()
        self._open: dict[UUID, str] = {}
        self._writing = asyncio.Lock()
        self._opening = LockTable[str]()
        self._background = Background()

    async def open(self) -> None:
        """Start to renew the streams of this process."""
        self._background.keep("stream-slots", self._keep_renewing)

    async def close(self) -> None:
        """Stop, after the last stream has ended."""
        await self._background.close()
        try:
            await self._database.fetch(_SQL["close_all_streams"], {"holder": self._holder})
        except StoreUnavailableError as error:
            _log.warning("streams are left to expire: %s", error)

    async def hold(self, owner_id: str, answer: Callable[[], Awaitable[ASGIApp]]) -> ASGIApp:
        """Return the answer to a request for a stream.

        The stream counts until the answer is sent.

        Raises:
            LimitReachedError: the owner has as many streams open as it may.
            StoreUnavailableError: the database does not answer.
        """
        stream_id = await self._take(owner_id)
        try:
            stream = await answer()
        except BaseException:
            self._release(stream_id)
            raise

        async def send_stream(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await stream(scope, receive, send)
            finally:
                self._release(stream_id)

        return send_stream

    async def renew(self) -> None:
        """Let no stream of this process expire.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._writing:
            if self._open:
                parameters = {"stream_ids": list(self._open), "owner_ids": list(self._open.values())}
                own = {"holder": self._holder, "seconds": SLOT_S}
                await self._database.fetch(_SQL["renew_streams"], {**parameters, **own})

    async def _take(self, owner_id: str) -> UUID:
        stream_id = new_id()
        own = {"holder": self._holder, "seconds": SLOT_S, "at_most": self._at_most}
        parameters = {**own, "stream_id": stream_id, "owner_id": owner_id}
        # An owner that floods its limit takes one connection at a time from the pool.
        async with self._opening.hold(owner_id):
            row = await self._database.fetch_one(_SQL["open_stream"], parameters)
        if row is None or not row[0]:
            raise LimitReachedError(f"At most {self._at_most} open streams.", RETRY_AFTER_S)
        self._open[stream_id] = owner_id
        return stream_id

    def _release(self, stream_id: UUID) -> None:
        del self._open[stream_id]
        self._background.once("the end of a stream", lambda: self._delete(stream_id))

    async def _delete(self, stream_id: UUID) -> None:
        async with self._writing:  # a renewal that runs would restore it
            await self._database.fetch(_SQL["close_stream"], {"stream_id": stream_id})

    async def _keep_renewing(self) -> None:
        while True:
            await self.renew()
            await asyncio.sleep(RENEW_INTERVAL_S)
