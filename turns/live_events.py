"""Recorded events as feeds send them, and the newest of them, which all feeds of this process share."""

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
from eventlog.feed import Feed
from eventlog.log import Log
from eventlog.wakeup import Wakeup
from projections.models.json_resources import recorded_event_resource

SECTION_EVENTS = 500
KEPT_EVENTS = 2000
KEPT_BYTES = 8 * 1024 * 1024
BATCH_BYTES = 256 * 1024
READERS_AT_ONCE = 8
"""How many readers are woken before other requests get their turn."""
REST_FOR_EACH_S = 0.0005
MAX_REST_S = 0.25
"""How long to rest for each reader that was woken, and for all of them at most. Sending to one takes about 0.05 ms,
whether one event or several, so that hundreds of readers leave most of the time to other requests."""
POLL_INTERVAL_S = 1.0
IDLE_S = 60.0


@dataclass(frozen=True, eq=False)
class FeedEvent:
    """A recorded event as the log's audit functions give it; of live ones it is known whose conversation it is of."""

    record: dict[str, Any]
    owner_id: str | None = None
    agent_id: str | None = None

    @property
    def position(self) -> int:
        """Where the event is in the log."""
        return self.record["position"]

    @cached_property
    def size(self) -> int:
        """About how many bytes it takes."""
        return len(self.record["data"])

    @cached_property
    def data_json(self) -> bytes:
        """The event as JSON. It is encoded once, however many readers it has."""
        return orjson.dumps(recorded_event_resource(self.record))


Wants = Callable[[FeedEvent], bool]


class FeedReader:
    """One feed's place in the log: what is wanted up to `position` was handed out.

    A reader that is not `pending` has all that this process has read. One that is `behind` has to read the table up to
    what is in memory.
    """

    def __init__(self, live: "LiveEvents", wants: Wants, position: int) -> None:
        self.wants = wants
        self.position = position
        self.pending = position < live.head
        self._live = live
        self._wakeup = Wakeup()

    @property
    def behind(self) -> bool:
        """Whether what comes next is in memory no longer."""
        return self.pending and self.position < self._live.start

    def take(self) -> list[FeedEvent]:
        """Return what comes next of what is wanted and in memory: as much as a batch holds, at least one fact."""
        taken: list[FeedEvent] = []
        size = 0
        if self.pending:
            for fact in self._live.after(self.position):
                if self.wants(fact):
                    size += fact.size
                    if taken and size > BATCH_BYTES:
                        return taken
                    taken.append(fact)
                self.position = fact.position
            self.advance(max(self.position, self._live.head))
        return taken

    def advance(self, position: int) -> None:
        """Say that what is wanted up to a position was handed out."""
        self.position = position
        self.pending = position < self._live.head

    def hear(self, after: int) -> None:
        """Wake the reader for what was read after a position, up to which it has everything if it was not pending."""
        if not self.pending:
            self.position = max(self.position, after)
            self.pending = True
        self.ring()

    def go_back(self, head: int) -> None:
        """Go on at the head of a log that has gone back, unless the reader is not there yet."""
        self.advance(min(self.position, head) if self.pending else head)

    def ring(self) -> None:
        """Wake the reader."""
        self._wakeup.set()

    async def rung(self) -> None:
        """Wait until something is there, or for a while."""
        await self._wakeup.wait(IDLE_S)


class LiveEvents:
    """Reads each new section of the log once, and keeps the newest events in memory for all readers.

    What was recorded after `start` and up to `head` is there. `times_back` says how often the log was found to have
    lost its end; a read that began before may hold what is no part of it. Nothing is read while there is no reader. A
    slow reader holds a position and a batch. When its place is in memory no longer, it reads the table.
    """

    def __init__(self, log: Log, feed: Feed) -> None:
        self.start = 0
        self.head = 0
        self.times_back = 0
        self._log = log
        self._feed = feed
        self._facts: list[FeedEvent] = []
        self._size = 0
        self._readers: dict[UUID | None, set[FeedReader]] = {}
        self._wakeup = Wakeup()
        self._background = Background()
        self._running = False
        feed.on_rewind(self._go_back)

    @contextmanager
    def reading(self, after: int | None, conversation_id: UUID | None, wants: Wants) -> Generator[FeedReader]:
        """Lend a reader of what is wanted after a position, or with None from now on.

        With a `conversation_id` nothing else may be wanted.
        """
        if not self._running:
            self._begin(self._feed.head)
            self._running = True
            self._background.keep("live-facts", self._run)
        reader = FeedReader(self, wants, self._feed.head if after is None else after)
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
        """Return what is in memory after a position."""
        return self._facts[bisect_right(self._facts, position, key=lambda fact: fact.position) :]

    def wake_all(self) -> None:
        """Wake every reader."""
        for reader in self._all_readers():
            reader.ring()

    async def _run(self) -> None:
        with self._feed.subscribed() as self._wakeup:
            while self._readers:
                if not await self._read_section():
                    await self._wakeup.wait(POLL_INTERVAL_S)
            self._running = False

    async def _read_section(self) -> bool:
        """Read what the log has next, and wake the readers that want some of it; return whether there was anything."""
        after, times_back = self.head, self.times_back
        if after >= self._feed.head:
            return False
        rows, upto = await self._log.section(after, min(after + SECTION_EVENTS, self._feed.head))
        if self.times_back != times_back:
            return True  # what was read may be no part of the log
        facts = [FeedEvent(*row) for row in rows]
        self._keep(facts, upto)
        await self._wake(after, facts)
        return True

    def _go_back(self, head: int) -> None:
        self.times_back += 1
        if self._running and head < self.head:
            self._begin(head)
            for reader in self._all_readers():
                reader.go_back(head)

    def _begin(self, head: int) -> None:
        self.start = self.head = head
        self._facts, self._size = [], 0

    def _keep(self, facts: list[FeedEvent], upto: int) -> None:
        self._facts += facts
        self._size += sum(fact.size for fact in facts)
        self.head = upto
        left_out = 0
        # The newest stays, whatever its size: else each reader would read it from the table.
        for fact in self._facts[:-1]:
            if self._size <= KEPT_BYTES and len(self._facts) - left_out <= KEPT_EVENTS:
                break
            left_out += 1
            self._size -= fact.size
            self.start = fact.position
        del self._facts[:left_out]

    async def _wake(self, after: int, facts: list[FeedEvent]) -> None:
        """Wake readers a few at a time. All at once, they would hold up every other request."""
        of_one = {reader for fact in facts for reader in self._readers.get(fact.record["conversation_id"], ())}
        readers = (*of_one, *self._readers.get(None, ()))
        times_back = self.times_back
        waking = [reader for reader in readers if any(map(reader.wants, facts))]
        for start in range(0, len(waking), READERS_AT_ONCE):
            if self.times_back != times_back:
                return
            group = waking[start : start + READERS_AT_ONCE]
            for reader in group:
                reader.hear(after)
            lags = self._feed.head - self.head >= SECTION_EVENTS
            await asyncio.sleep(0 if lags else len(group) * min(REST_FOR_EACH_S, MAX_REST_S / len(waking)))

    def _all_readers(self) -> Iterator[FeedReader]:
        return (reader for readers in self._readers.values() for reader in readers)
