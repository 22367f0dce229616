"""The feed: the log in order, from memory where this process has just written it, else from the table."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from eventlog.background import Background
from eventlog.channels import Channels
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from eventlog.mapper import Recorded
from eventlog.wakeup import Wakeup

TAIL_EVENTS = 1024

_TOPIC = "events"
_log = logging.getLogger(__name__)


class Feed:
    """Follows one log. `head` is the newest position this process knows of. Subscribers hear it grow.

    Positions have no gaps, so a reader that asks for what follows N needs no other memory than N. After a failover or
    a restore the head may be lower than before, and a reader goes on from there.
    """

    def __init__(self, log: Log, channels: Channels) -> None:
        self.head = 0
        self._log = log
        self._channels = channels
        self._tail: OrderedDict[int, Recorded] = OrderedDict()
        self._wakeups: set[Wakeup] = set()
        self._committed = 0
        self._heard_while_asking = 0
        self._asking = asyncio.Lock()
        self._polls = Background()
        self._polling = False
        self._on_back: list[Callable[[int], None]] = []
        channels.on(_TOPIC, self._heard)
        channels.on_reconnect(self._forget)

    @contextmanager
    def subscribed(self) -> Generator[Wakeup]:
        """Lend a wakeup that rings each time the log grows."""
        wakeup = Wakeup()
        self._wakeups.add(wakeup)
        try:
            yield wakeup
        finally:
            self._wakeups.discard(wakeup)

    def on_back(self, listener: Callable[[int], None]) -> None:
        """Let `listener` hear each lower head at which the log is found again."""
        self._on_back.append(listener)

    def committed(self, head: int, recorded: Sequence[Recorded]) -> None:
        """Take what this process's writer has just committed."""
        for item in recorded:
            self._tail[item.position] = item
        while len(self._tail) > TAIL_EVENTS:
            self._tail.popitem(last=False)
        self._advance(head)
        self._committed = head
        self._channels.announce(_TOPIC, lambda: str(self._committed))

    async def read(self, after: int, limit: int) -> list[Recorded]:
        """Return at most `limit` events after a position, in order. The list is empty only where there is none yet.

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
        """Ask the log for its head and take it, even where it is lower than what was announced.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._asking:
            self._heard_while_asking = 0
            head = await self._log.head()
            # A commit or an announcement that came meanwhile may be newer than the answer.
            head = max(head, self._heard_while_asking)
        if head < self.head:
            _log.warning("the log ends at position %s, before it ended at %s", head, self.head)
            self._tail.clear()
            self.head = head
            for listener in self._on_back:
                listener(head)
        self._advance(head)

    async def close(self) -> None:
        """Stop polling."""
        await self._polls.close()

    def _heard(self, payload: str | None) -> None:
        if payload is not None:
            self._advance(int(payload))
        elif not self._polling:
            self._polling = True
            self._polls.once("poll-head", self._refresh_if_possible)

    def _forget(self) -> None:
        self._tail.clear()
        self._heard(None)

    async def _refresh_if_possible(self) -> None:
        try:
            with suppress(StoreUnavailableError):  # the next poll, or the reader itself, will see
                await self.refresh()
        finally:
            self._polling = False

    def _advance(self, head: int) -> None:
        self._heard_while_asking = max(head, self._heard_while_asking)
        if head > self.head:
            self.head = head
            for wakeup in self._wakeups:
                wakeup.set()
