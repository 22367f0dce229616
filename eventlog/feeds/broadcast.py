"""Broadcast: one reader of the log for all live subscribers of this process."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from uuid import UUID

from eventlog.background import Background
from eventlog.feeds.feed import Feed
from eventlog.mapper import Recorded

BATCH_EVENTS = 500
POLL_INTERVAL_S = 1.0

Subscriber = Callable[[Recorded], None]

_log = logging.getLogger(__name__)


class Broadcast:
    """Hands each event once, in log order, to the subscribers of its conversation.

    A subscriber is quick and does not raise. It gets the events recorded after it subscribed, and may get a few that
    were recorded just before. An event of a newer release comes as an UnknownEvent. Without subscribers the log is
    not read.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._subscribers: dict[UUID, list[Subscriber]] = {}
        self._has_subscribers = asyncio.Event()
        self._position = 0
        self._background = Background()
        feed.on_rewind(self._rewind)

    async def open(self) -> None:
        """Start to hand events to subscribers."""
        self._background.keep("broadcast", self._run)

    async def close(self) -> None:
        """Stop handing events to subscribers."""
        await self._background.close()

    @contextmanager
    def subscribed(self, conversation_id: UUID, subscriber: Subscriber) -> Generator[None]:
        """Call `subscriber` with the events of a conversation until the block ends."""
        if not self._subscribers:
            self._position = self._feed.head
            self._has_subscribers.set()
        self._subscribers.setdefault(conversation_id, []).append(subscriber)
        try:
            yield
        finally:
            subscribers = self._subscribers[conversation_id]
            subscribers.remove(subscriber)
            if not subscribers:
                del self._subscribers[conversation_id]

    async def _run(self) -> None:
        with self._feed.subscribed() as wakeup:
            while True:
                if not self._subscribers:
                    self._has_subscribers.clear()
                    await self._has_subscribers.wait()
                if not await self._publish_batch():
                    await wakeup.wait(POLL_INTERVAL_S)

    async def _publish_batch(self) -> bool:
        after = self._position
        batch = await self._feed.read(after, BATCH_EVENTS)
        if self._position != after:
            return True  # the log was rewound meanwhile, so the batch may no longer be part of it
        for item in batch:
            self._position = item.position
            for subscriber in tuple(self._subscribers.get(item.event.originator_id, ())):
                _call(subscriber, item)
        return bool(batch)

    def _rewind(self, head: int) -> None:
        self._position = min(self._position, head)


def _call(subscriber: Subscriber, item: Recorded) -> None:
    try:
        subscriber(item)
    except Exception:  # noqa: BLE001 - a logged boundary of the process
        # A defect of one subscriber must not stop the others.
        _log.exception("a subscriber failed at position %s", item.position)
