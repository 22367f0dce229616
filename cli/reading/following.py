"""Following a log: the wanted events that are recorded from now on."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from eventlog.errors import StoreUnavailableError
from eventlog.feeds.feed import Feed
from eventlog.log_search import EventFilter, LogSearch
from eventlog.retry import equal_pauses, retry

PAGE_EVENTS = 1000
HINT_WAIT_S = 60.0
POLL_INTERVAL_S = 1.0
OUTAGE_S = 60.0
"""How long a follower waits for a database that does not answer, such as one that restarts."""

T = TypeVar("T")


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
            StoreUnavailableError: the database does not answer for a minute, or not at the beginning.
        """
        await self._feed.refresh()
        with self._feed.subscribed() as wakeup:
            while True:
                if self._feed.head > self._position:
                    yield await _once_available(partial(self._next, wanted))
                elif not await wakeup.wait(POLL_INTERVAL_S if self._polls else HINT_WAIT_S):
                    await _once_available(self._feed.refresh)

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


async def _once_available(read: Callable[[], Awaitable[T]]) -> T:
    return await retry(read, StoreUnavailableError, equal_pauses(POLL_INTERVAL_S, OUTAGE_S))
