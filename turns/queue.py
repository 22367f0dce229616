"""Queued turns: each waits in one process until those before it have ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

from domain.errors import ConversationLockedError, DomainError, LimitReachedError, TurnNotActiveError
from domain.events import TurnEnded, TurnQueued
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError
from eventlog.feeds.broadcast import Broadcast
from eventlog.feeds.wakeup import Wakeup
from eventlog.log import Log
from eventlog.mapper import Recorded, UnknownEvent
from turns.frames.replay import TurnKey
from turns.upkeep.leases import Leases

POLL_INTERVAL_S = 10.0
RETRY_INTERVAL_S = 0.5
LIMIT_INTERVAL_S = 0.5
"""How often a turn tries to start that only its owner's limit of running turns holds back."""

Start = Callable[[TurnKey, TurnQueued], Awaitable[None]]

_log = logging.getLogger(__name__)


class TurnQueue:
    """The queued turns that wait in this process.

    The process holds a lease for each. If the process dies, another one takes them over.
    """

    def __init__(self, log: Log, broadcast: Broadcast, leases: Leases) -> None:
        self._log = log
        self._broadcast = broadcast
        self._leases = leases
        self._start: Start | None = None
        self._waiting: dict[UUID, asyncio.Task[bool]] = {}
        self._starting: set[UUID] = set()
        self._closed = False

    @property
    def length(self) -> int:
        """The number of turns that wait here."""
        return len(self._waiting)

    def open(self, start: Start) -> None:
        """Start queued turns with `start` from now on.

        It records that a turn starts and runs it. It raises ConversationLockedError while other turns come first.
        """
        self._start = start

    async def add(self, key: TurnKey) -> None:
        """Let a turn wait here, and start it when the turns before it have ended.

        This process holds its lease.
        """
        if self._closed:
            await self._release(key.turn_id)
            return
        task = asyncio.create_task(self._wait(key), name=f"queued turn {key.turn_id}")
        self._waiting[key.turn_id] = task
        task.add_done_callback(lambda done: self._remove(key, done))

    async def adopt(self, key: TurnKey) -> None:
        """Take over a turn whose process is gone, unless another process was faster.

        Raises:
            StoreUnavailableError: the database does not answer, or this server is being stopped.
        """
        if self._closed:
            raise StoreUnavailableError("The server is being stopped.")
        if await self._leases.take_over(key.turn_id) and key.turn_id not in self._waiting:
            await self.add(key)

    async def wait_until_started(self, turn_id: UUID) -> None:
        """Wait until a turn has left this queue: it started, ended, or was released.

        Return at once if it is not in this queue.
        """
        if task := self._waiting.get(turn_id):
            await asyncio.wait([task])

    async def close(self) -> None:
        """Start no more turns. Release the waiting ones to other processes."""
        self._closed = True
        waiting = dict(self._waiting)
        for turn_id, task in waiting.items():
            # A start under way must end, so that its outcome is known.
            if turn_id not in self._starting:
                task.cancel()
        await asyncio.gather(*waiting.values(), return_exceptions=True)
        for turn_id, task in waiting.items():
            if task.cancelled() or (not task.exception() and not task.result()):
                await self._release(turn_id)

    async def _release(self, turn_id: UUID) -> None:
        with suppress(StoreUnavailableError):  # then the lease expires by itself
            await self._leases.release(turn_id)

    def _remove(self, key: TurnKey, task: asyncio.Task[bool]) -> None:
        del self._waiting[key.turn_id]
        if not task.cancelled() and (error := task.exception()):
            self._leases.let_expire(key.turn_id)
            _log.error("queued turn %s was left waiting", key.turn_id, exc_info=error)

    async def _wait(self, key: TurnKey) -> bool:
        """Try to start a turn after each end of another one.

        Return False if the queue closed before the turn left it.
        """
        wakeup = Wakeup()

        def on_event(item: Recorded) -> None:
            if isinstance(item.event, TurnEnded | UnknownEvent):
                wakeup.set()

        with self._broadcast.subscribed(key.conversation_id, on_event):
            while not self._closed:
                try:
                    if await self._try_to_start(key):
                        return True
                    await wakeup.wait(POLL_INTERVAL_S)
                except LimitReachedError:
                    await asyncio.sleep(LIMIT_INTERVAL_S)
                except LogError as error:
                    _log.warning("queued turn %s cannot start yet: %s", key.turn_id, error)
                    await asyncio.sleep(RETRY_INTERVAL_S)
        return False

    async def _try_to_start(self, key: TurnKey) -> bool:
        """Return whether the turn waits here no longer, False if other turns come first.

        Raises:
            LimitReachedError: the owner has as many running turns as it may.
            LogError: the log does not answer, or refuses.
        """
        try:
            await self._start_now(key)
        except ConversationLockedError:
            return False
        except LimitReachedError:
            raise
        except DomainError as error:
            _log.info("queued turn %s does not start here: %s", key.turn_id, error)
            # An attempt of unknown outcome may have started it here, so the lease expires instead of being deleted.
            self._leases.let_expire(key.turn_id)
        except UnknownEventError as error:
            # The lease expires, so that a process of a newer release, which can read this, takes the turn over.
            _log.warning("queued turn %s is left to a newer release: %s", key.turn_id, error)
            self._leases.let_expire(key.turn_id)
        return True

    async def _start_now(self, key: TurnKey) -> None:
        assert self._start is not None, "the queue is not open"
        queued = await self._queued(key)
        self._starting.add(key.turn_id)
        try:
            await self._start(key, queued)
        finally:
            self._starting.discard(key.turn_id)

    async def _queued(self, key: TurnKey) -> TurnQueued:
        recorded = await self._log.versions(key.conversation_id, [key.begun_version])
        if not recorded or not isinstance(recorded[0].event, TurnQueued):
            raise TurnNotActiveError(key.turn_id)  # the log has lost it
        return recorded[0].event
