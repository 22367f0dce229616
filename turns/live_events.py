"""The newest recorded events, in memory for all event feeds of this process."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson

from eventlog.background import Background
from eventlog.feeds.feed import Feed
from eventlog.feeds.wakeup import Wakeup
from eventlog.log import Log
from projections.models.json_resources import recorded_event_resource

SECTION_EVENTS = 500
KEPT_EVENTS = 2000
KEPT_BYTES = 8 * 1024 * 1024
BATCH_BYTES = 256 * 1024
READERS_AT_ONCE = 8
"""How many readers are woken before other requests get the event loop."""
REST_FOR_EACH_S = 0.0005
MAX_REST_S = 0.25
"""How long to rest for each reader that was woken, and for all of them at most.

Sending to one reader takes about 0.05 ms, for one event or several. So hundreds of readers leave most of the time to
other requests.
"""
POLL_INTERVAL_S = 1.0
IDLE_S = 60.0


@dataclass(frozen=True, eq=False)
class FeedEvent:
    """A recorded event as audit functions return it. Live ones have owner and agent."""

    record: dict[str, Any]
    owner_id: str | None = None
    agent_id: str | None = None

    @property
    def position(self) -> int:
        """The event's place in the log."""
        return self.record["position"]

    @cached_property
    def size(self) -> int:
        """About how many bytes the event takes."""
        return len(self.record["data"])

    @cached_property
    def data_json(self) -> bytes:
        """The event as JSON, encoded once for all readers."""
        return orjson.dumps(recorded_event_resource(self.record))


IsWanted = Callable[[FeedEvent], bool]


class FeedReader:
    """One feed's place in the log: its wanted events up to `position` were taken.

    A reader that is not `pending` has taken all that this process has read.
    """

    def __init__(self, live: "LiveEvents", is_wanted: IsWanted, position: int) -> None:
        self.is_wanted = is_wanted
        self.position = position
        self.pending = position < live.head
        self._live = live
        self._wakeup = Wakeup()

    @property
    def behind(self) -> bool:
        """Whether the next events must be read from the table."""
        return self.pending and self.position < self._live.start

    def take(self) -> list[FeedEvent]:
        """Return the next wanted events in memory: up to 256 KiB, or one larger event."""
        taken: list[FeedEvent] = []
        size = 0
        if self.pending:
            for event in self._live.after(self.position):
                if self.is_wanted(event):
                    size += event.size
                    if taken and size > BATCH_BYTES:
                        return taken
                    taken.append(event)
                self.position = event.position
            self.advance(max(self.position, self._live.head))
        return taken

    def advance(self, position: int) -> None:
        """Note that the wanted events up to a position were taken."""
        self.position = position
        self.pending = position < self._live.head

    def wake_for(self, after: int) -> None:
        """Wake the reader for events that were read after a position."""
        if not self.pending:
            # The reader has taken everything up to there.
            self.position = max(self.position, after)
            self.pending = True
        self.wake()

    def rewind(self, head: int) -> None:
        """Go on at the lower head of a rewound log, unless the reader is not there yet."""
        self.advance(min(self.position, head) if self.pending else head)

    def wake(self) -> None:
        """Wake the reader."""
        self._wakeup.set()

    async def wait(self) -> None:
        """Wait until there are events to take, or for 60 s."""
        await self._wakeup.wait(IDLE_S)


class LiveEvents:
    """Reads each new section of the log once, and keeps the newest events for all.

    The events after `start` and up to `head` are in memory. `rewinds` counts how often the log was found to have lost
    its end, so a read that began before may hold events that are no longer part of it. Nothing is read while there
    is no reader. A slow reader holds only a position and a batch, and reads the table when its place is no longer in
    memory.
    """

    def __init__(self, log: Log, feed: Feed) -> None:
        self.start = 0
        self.head = 0
        self.rewinds = 0
        self._log = log
        self._feed = feed
        self._events: list[FeedEvent] = []
        self._size = 0
        self._readers: dict[UUID | None, set[FeedReader]] = {}
        self._wakeup = Wakeup()
        self._background = Background()
        self._running = False
        feed.on_rewind(self._rewind)

    @contextmanager
    def reading(self, after: int | None, conversation_id: UUID | None, is_wanted: IsWanted) -> Generator[FeedReader]:
        """Yield a reader of the wanted events after a position (None: of new ones).

        With a `conversation_id` only events of that conversation may be wanted.
        """
        if not self._running:
            self._begin(self._feed.head)
            self._running = True
            self._background.keep("live-events", self._run)
        reader = FeedReader(self, is_wanted, self._feed.head if after is None else after)
        self._readers.setdefault(conversation_id, set()).add(reader)
        try:
            yield reader
        finally:
            readers = self._readers[conversation_id]
            readers.remove(reader)
            if not readers:
                del self._readers[conversation_id]
            if not self._readers:
                self._wakeup.set()

    def after(self, position: int) -> Sequence[FeedEvent]:
        """Return the events in memory after a position."""
        return self._events[bisect_right(self._events, position, key=lambda event: event.position) :]

    def wake_all(self) -> None:
        """Wake every reader."""
        for reader in self._all_readers():
            reader.wake()

    async def _run(self) -> None:
        with self._feed.subscribed() as self._wakeup:
            while self._readers:
                if not await self._read_section():
                    await self._wakeup.wait(POLL_INTERVAL_S)
            self._running = False

    async def _read_section(self) -> bool:
        """Read the next section, wake its readers, and return whether there was one."""
        after, rewinds = self.head, self.rewinds
        if after >= self._feed.head:
            return False
        rows, upto = await self._log.section_records(after, min(after + SECTION_EVENTS, self._feed.head))
        if self.rewinds != rewinds:
            return True  # the section may no longer be part of the log
        events = [FeedEvent(*row) for row in rows]
        self._keep(events, upto)
        await self._wake_readers(after, events)
        return True

    def _rewind(self, head: int) -> None:
        self.rewinds += 1
        if self._running and head < self.head:
            self._begin(head)
            for reader in self._all_readers():
                reader.rewind(head)

    def _begin(self, head: int) -> None:
        self.start = self.head = head
        self._events, self._size = [], 0

    def _keep(self, events: list[FeedEvent], upto: int) -> None:
        self._events += events
        self._size += sum(event.size for event in events)
        self.head = upto
        dropped = 0
        # The newest stays, whatever its size: else each reader would read it from the table.
        for event in self._events[:-1]:
            if self._size <= KEPT_BYTES and len(self._events) - dropped <= KEPT_EVENTS:
                break
            dropped += 1
            self._size -= event.size
            self.start = event.position
        del self._events[:dropped]

    async def _wake_readers(self, after: int, events: list[FeedEvent]) -> None:
        """Wake the readers of new events, a few at a time."""
        of_conversations = {
            reader for event in events for reader in self._readers.get(event.record["conversation_id"], ())
        }
        readers = (*of_conversations, *self._readers.get(None, ()))
        rewinds = self.rewinds
        waking = [reader for reader in readers if any(map(reader.is_wanted, events))]
        # All at once, they would hold up every other request.
        for start in range(0, len(waking), READERS_AT_ONCE):
            if self.rewinds != rewinds:
                return
            group = waking[start : start + READERS_AT_ONCE]
            for reader in group:
                reader.wake_for(after)
            lags = self._feed.head - self.head >= SECTION_EVENTS
            await asyncio.sleep(0 if lags else len(group) * min(REST_FOR_EACH_S, MAX_REST_S / len(waking)))

    def _all_readers(self) -> Iterator[FeedReader]:
        return (reader for readers in self._readers.values() for reader in readers)
