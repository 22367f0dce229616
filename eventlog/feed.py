"""The feed: the log in order, from memory where this process has just written it, else from the table."""

import asyncio
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress

from eventlog.bell import Bell
from eventlog.channels import Channels
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from eventlog.mapper import Recorded

TAIL_EVENTS = 1024

_TOPIC = "events"


class Feed:
    """Follows one log. `head` is the newest position this process knows of; subscribers hear it grow.

    Positions have no gaps, so a reader that asks for what follows N needs no other memory than N.
    """

    def __init__(self, log: Log, channels: Channels) -> None:
        self.head = 0
        self._log = log
        self._channels = channels
        self._tail: OrderedDict[int, Recorded] = OrderedDict()
        self._bells: set[Bell] = set()
        self._poll: asyncio.Task[None] | None = None
        channels.on(_TOPIC, self._heard)

    @contextmanager
    def subscribed(self) -> Generator[Bell]:
        """Lend a bell that rings each time the log grows."""
        bell = Bell()
        self._bells.add(bell)
        try:
            yield bell
        finally:
            self._bells.discard(bell)

    def committed(self, head: int, recorded: Sequence[Recorded]) -> None:
        """Take what this process's writer has just committed."""
        for item in recorded:
            self._tail[item.position] = item
        while len(self._tail) > TAIL_EVENTS:
            self._tail.popitem(last=False)
        self._advance(head)
        self._channels.announce(_TOPIC, lambda: str(self.head))

    async def read(self, after: int, limit: int) -> list[Recorded]:
        """Return at most `limit` events after a position, in order; empty only where there is none yet.

        Raises:
            StoreUnavailableError: the database does not answer.
            UnknownEventError: an event was written by a newer release.
        """
        if after >= self.head:
            return []
        recent: list[Recorded] = []
        while len(recent) < limit and (item := self._tail.get(after + len(recent) + 1)):
            recent.append(item)
        return recent or await self._log.after(after, limit)

    async def refresh(self) -> None:
        """Ask the log for its head, whatever was or was not announced."""
        self._advance(await self._log.head())

    async def close(self) -> None:
        """Stop polling."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)

    def _heard(self, payload: str | None) -> None:
        if payload is not None:
            self._advance(int(payload))
        elif self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._refresh_if_possible(), name="poll-head")

    async def _refresh_if_possible(self) -> None:
        with suppress(StoreUnavailableError):  # the next poll, or the reader itself, will see
            await self.refresh()

    def _advance(self, head: int) -> None:
        if head > self.head:
            self.head = head
            for bell in self._bells:
                bell.ring()
