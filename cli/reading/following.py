"""Following a log: the wanted events that are recorded from now on."""

from collections.abc import AsyncGenerator
from typing import Any

from eventlog.feeds.feed import Feed
from eventlog.log_search import EventFilter, LogSearch

PAGE_EVENTS = 1000
HINT_WAIT_S = 60.0
POLL_INTERVAL_S = 1.0


class Follower:
    """Follows the log after a position.

    The feed learns of new events from notifications. Where there are none, as on a standby, the follower `polls`.
    """

    def __init__(self, feed: Feed, search: LogSearch, position: int, *, polls: bool) -> None:
        self._feed = feed
        self._search = search
        self._position = position
        self._polls = polls
        self._rewinds = 0
        feed.on_rewind(self._rewind)

    async def pages(self, wanted: EventFilter) -> AsyncGenerator[list[dict[str, Any]]]:
        """Yield the wanted events as they are recorded, without end.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        await self._feed.refresh()
        with self._feed.subscribed() as wakeup:
            while True:
                if self._feed.head > self._position:
                    yield await self._next(wanted)
                elif not await wakeup.wait(POLL_INTERVAL_S if self._polls else HINT_WAIT_S):
                    await self._feed.refresh()

    async def _next(self, wanted: EventFilter) -> list[dict[str, Any]]:
        head, rewinds = self._feed.head, self._rewinds
        found = await self._search.in_log(wanted, self._position, PAGE_EVENTS)
        if self._rewinds != rewinds:
            return []  # the page may no longer be part of the log
        newest = found.records[-1]["position"] if found.records else 0
        self._position = max(head, newest) if found.end is None else found.end
        return found.records

    def _rewind(self, head: int) -> None:
        self._rewinds += 1
        self._position = min(self._position, head)
