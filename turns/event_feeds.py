"""Event feeds: events as they are recorded, with the frames of a running turn."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from commands.executor import CommandExecutor
from domain.conversation import ActiveTurn
from eventlog.background import Background
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError
from eventlog.feeds.feed import Feed
from eventlog.log import FeedFilter
from eventlog.retry import equal_pauses, retry
from turns.frames.frames import Frame
from turns.frames.replay import TurnKey
from turns.live_events import FeedEvent, FeedReader, LiveEvents
from turns.turn_streams import TurnStreams

WINDOW_POSITIONS = 5000
PAGE_EVENTS = 500
TABLE_READERS = 2
"""How many feeds read the table at once. With more, other reads would wait for connections and processors."""
WAITING_BATCHES = 2
RETRY_INTERVAL_S = 0.5

FeedEvents = list[FeedEvent]
Page = tuple[list[dict[str, Any]], int]
"""Recorded events, and the position up to which the log was read for them."""
ReadPage = Callable[[int], Awaitable[Page]]

_log = logging.getLogger(__name__)


class EventFeeds:
    """The feeds of this process.

    A reader holds a position and a few batches, however slowly it reads. New events come from memory, where all readers
    share them. Older ones are read from the table in pages. A feed has no end, so it retries while the store is away.
    """

    def __init__(self, executor: CommandExecutor, feed: Feed, streams: TurnStreams) -> None:
        self._executor = executor
        self._log = executor.log
        self._feed = feed
        self._streams = streams
        self._live = LiveEvents(self._log, feed)
        self._reading_table = asyncio.Semaphore(TABLE_READERS)
        self._closed = False

    async def events(self, wanted: FeedFilter, after: int | None) -> AsyncGenerator[FeedEvents]:
        """Yield the wanted events after a position (None: new ones), without end."""

        async def read(position: int) -> Page:
            return await self._log.feed_records(wanted, position, min(position + WINDOW_POSITIONS, self._live.head))

        with self._live.reading(after, wanted.conversation_id, partial(_is_wanted, wanted)) as reader:
            async for events in self._follow(reader, read):
                yield events

    async def conversation(self, conversation_id: UUID, after: int | None) -> AsyncGenerator[FeedEvents | list[Frame]]:
        """Yield a conversation's events after a position (None: new ones) and frames."""
        merged = _Merged()
        try:
            # The head is read first, so a turn that starts between the two reads is seen, and not taken for `turn`.
            head = self._feed.head
            turn = await self._active_turn(conversation_id)
            if turn is not None:
                merged.add(self._streams.follow(TurnKey(conversation_id, turn.id, turn.first_version), to_the_end=True))
            events = self._conversation_events(conversation_id, head if after is None else after)
            merged.add(events, ends_all=True)
            while (batch := await merged.next()) is not None:
                for started in _turns_started(batch, head):
                    if turn is None or started.turn_id != turn.id:
                        merged.add(self._streams.follow(started, to_the_end=True))
                yield batch
        finally:
            await merged.close()

    def close(self) -> None:
        """End every feed, because the server stops."""
        self._closed = True
        self._live.wake_all()

    async def _active_turn(self, conversation_id: UUID) -> ActiveTurn | None:
        async def attempt() -> ActiveTurn | None:
            if self._closed:
                return None
            try:
                return (await self._executor.state(conversation_id)).turn
            except UnknownEventError:
                return None  # the events of a newer release are shown all the same

        return await retry(attempt, StoreUnavailableError, equal_pauses(RETRY_INTERVAL_S))

    async def _conversation_events(self, conversation_id: UUID, after: int) -> AsyncGenerator[FeedEvents]:
        version = 0

        async def read(position: int) -> Page:
            nonlocal version
            head = self._live.head
            found = await self._log.conversation_records(conversation_id, version, position, PAGE_EVENTS)
            if not found:
                return [], head
            version = found[-1]["version"]
            return found, found[-1]["position"]

        def is_wanted(event: FeedEvent) -> bool:
            return event.record["conversation_id"] == conversation_id

        with self._live.reading(after, conversation_id, is_wanted) as reader:
            async for events in self._follow(reader, read):
                yield events

    async def _follow(self, reader: FeedReader, read: ReadPage) -> AsyncGenerator[FeedEvents]:
        """Yield the events that a reader wants, from memory or from the table."""

        async def take() -> FeedEvents:
            if self._closed:
                return []
            return await self._page(reader, read) if reader.behind else reader.take()

        while not self._closed:
            events = await retry(take, StoreUnavailableError, equal_pauses(RETRY_INTERVAL_S))
            if events:
                yield events
            elif not reader.pending:
                await reader.wait()

    async def _page(self, reader: FeedReader, read: ReadPage) -> FeedEvents:
        async with self._reading_table:
            rewinds = self._live.rewinds
            found, position = await read(reader.position)
        if self._live.rewinds != rewinds:
            return []  # the page may no longer be part of the log
        reader.advance(position)
        return list(map(FeedEvent, found))


class _Merged:
    """Batches of several sources as they come. A slow consumer slows the sources."""

    def __init__(self) -> None:
        self._batches: asyncio.Queue[Any] = asyncio.Queue(WAITING_BATCHES)
        self._background = Background()

    def add(self, source: AsyncGenerator[Any], *, ends_all: bool = False) -> None:
        """Take the batches of another source. With `ends_all`, its end is the end of all."""
        self._background.once("feed-source", lambda: self._drain(source, ends_all=ends_all))

    async def next(self) -> Any:
        """Return the next batch, None at the end."""
        return await self._batches.get()

    async def close(self) -> None:
        await self._background.close()

    async def _drain(self, source: AsyncGenerator[Any], *, ends_all: bool) -> None:
        try:
            async with aclosing(source) as batches:
                async for batch in batches:
                    await self._batches.put(batch)
        except LogError as error:
            _log.warning("a feed ends: %s", error)
            ends_all = True
        if ends_all:
            await self._batches.put(None)


def _turns_started(batch: FeedEvents | list[Frame], after: int) -> list[TurnKey]:
    """Return the turns that start with one of these events, after a position."""
    return [
        TurnKey(record["conversation_id"], UUID(orjson.loads(record["data"])["turn_id"]), record["version"])
        for record in (item.record for item in batch if isinstance(item, FeedEvent))
        if record["type"] == "TurnStarted" and record["position"] > after
    ]


def _is_wanted(wanted: FeedFilter, event: FeedEvent) -> bool:
    return (
        wanted.owner_id in (None, event.owner_id)
        and wanted.conversation_id in (None, event.record["conversation_id"])
        and wanted.agent_id in (None, event.agent_id)
        and wanted.type in (None, event.record["type"])
    )
