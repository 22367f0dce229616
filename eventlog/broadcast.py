"""Broadcast: what the log records, handed to everybody in this process who follows it live; one reader for them all."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import UUID

from eventlog.background import Background
from eventlog.feed import Feed
from eventlog.mapper import Recorded

BATCH_EVENTS = 500
POLL_INTERVAL_S = 1.0

Listener = Callable[[Recorded], None]

_log = logging.getLogger(__name__)


class Broadcast:
    """Hands each event to the listeners of its conversation, in log order, each once.

    A listener is quick and does not raise; it hears what was recorded after it came, and perhaps a little of what was
    recorded just before. An event of a newer release comes as an UnknownEvent. Nothing is read while nobody listens.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._listeners: dict[UUID, list[Listener]] = {}
        self._came = asyncio.Event()
        self._position = 0
        self._background = Background()
        feed.on_back(self._go_back)

    async def open(self) -> None:
        """Start to hand events on."""
        self._background.keep("broadcast", self._run)

    async def close(self) -> None:
        """Stop."""
        await self._background.close()

    @contextmanager
    def heard(self, conversation_id: UUID, listener: Listener) -> Generator[None]:
        """Let `listener` hear the events of a conversation for as long as the block lasts."""
        if not self._listeners:
            self._position = self._feed.head
            self._came.set()
        self._listeners.setdefault(conversation_id, []).append(listener)
        try:
            yield
        finally:
            listeners = self._listeners[conversation_id]
            listeners.remove(listener)
            if not listeners:
                del self._listeners[conversation_id]

    async def _run(self) -> None:
        with self._feed.subscribed() as wakeup:
            while True:
                if not self._listeners:
                    self._came.clear()
                    await self._came.wait()
                if not await self._hand_on():
                    await wakeup.wait(POLL_INTERVAL_S)

    async def _hand_on(self) -> bool:
        after = self._position
        batch = await self._feed.read(after, BATCH_EVENTS)
        if self._position != after:
            return True  # the log has gone back meanwhile, and what was read may be no part of it
        for item in batch:
            self._position = item.position
            for listener in tuple(self._listeners.get(item.event.originator_id, ())):
                _tell(listener, item)
        return bool(batch)

    def _go_back(self, head: int) -> None:
        self._position = min(self._position, head)


def _tell(listener: Listener, item: Recorded) -> None:
    try:
        listener(item)
    except Exception:  # noqa: BLE001 - a logged boundary of the process
        # One listener's defect must not silence the others.
        _log.exception("a listener failed at position %s", item.position)
