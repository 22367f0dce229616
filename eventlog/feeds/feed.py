"""The feed: the log in order, the newest events from memory."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from eventlog.background import Background
from eventlog.errors import StoreUnavailableError
from eventlog.feeds.channels import Channels
from eventlog.feeds.wakeup import Wakeup
from eventlog.log import Log
from eventlog.mapper import Recorded

TAIL_EVENTS = 1024
TOPIC = "events"
"""The topic of the notifications that a log has grown. The payload is its new head."""

_log = logging.getLogger(__name__)


class Feed:
    """Follows one log. `head` is the newest position that this process knows.

    Positions have no gaps, so a reader that has read up to N needs to remember only N. After a failover or a restore
    the head may be lower than before, and a reader goes on from the lower head.
    """

    def __init__(self, log: Log, channels: Channels) -> None:
        self.head = 0
        self._log = log
        self._channels = channels
        self._tail: OrderedDict[int, Recorded] = OrderedDict()
        self._wakeups: set[Wakeup] = set()
        self._committed = 0
        self._newest_while_reading = 0
        self._reading_head = asyncio.Lock()
        self._polls = Background()
        self._polling = False
        self._rewind_listeners: list[Callable[[int], None]] = []
        channels.subscribe(TOPIC, self._on_notification)
        channels.on_new_generation(self._forget)

    @contextmanager
    def subscribed(self) -> Generator[Wakeup]:
        """Yield a wakeup that is set each time the head grows."""
        wakeup = Wakeup()
        self._wakeups.add(wakeup)
        try:
            yield wakeup
        finally:
            self._wakeups.discard(wakeup)

    def on_rewind(self, listener: Callable[[int], None]) -> None:
        """Call `listener` with the new head each time the log has lost its newest events."""
        self._rewind_listeners.append(listener)

    def committed(self, head: int, recorded: Sequence[Recorded]) -> None:
        """Take the new head and the events that this process's writer has just committed."""
        for item in recorded:
            self._tail[item.position] = item
        while len(self._tail) > TAIL_EVENTS:
            self._tail.popitem(last=False)
        self._advance(head)
        self._committed = head
        self._channels.notify_soon(TOPIC, lambda: str(self._committed))

    async def read(self, after: int, limit: int) -> list[Recorded]:
        """Return at most `limit` events after a position, in order.

        The list is empty only if there are none yet.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        if after >= self.head:
            return []
        recent: list[Recorded] = []
        while len(recent) < limit and (item := self._tail.get(after + len(recent) + 1)):
            recent.append(item)
        return recent or await self._log.after(after, limit)

    async def refresh(self) -> None:
        """Read the head from the log and take it, even if it is lower than the known one.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._reading_head:
            self._newest_while_reading = 0
            head = await self._log.head()
            # A commit or a notification that came meanwhile may be newer than the answer.
            head = max(head, self._newest_while_reading)
        if head < self.head:
            _log.warning("the log ends at position %s, where it ended at %s before", head, self.head)
            self._tail.clear()
            self.head = head
            for listener in self._rewind_listeners:
                listener(head)
        self._advance(head)

    async def close(self) -> None:
        """Stop polling."""
        await self._polls.close()

    def _on_notification(self, payload: str | None) -> None:
        if payload is not None:
            self._advance(int(payload))
        elif not self._polling:
            self._polling = True
            self._polls.once("poll-head", self._try_to_refresh)

    def _forget(self) -> None:
        self._tail.clear()
        self._on_notification(None)

    async def _try_to_refresh(self) -> None:
        try:
            with suppress(StoreUnavailableError):  # the next poll tries again
                await self.refresh()
        finally:
            self._polling = False

    def _advance(self, head: int) -> None:
        self._newest_while_reading = max(head, self._newest_while_reading)
        if head > self.head:
            self.head = head
            for wakeup in self._wakeups:
                wakeup.set()
