"""Live feeds: what is recorded, as it is recorded, and for one conversation the frames of the turn that runs too."""

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
from eventlog.background import cancel_and_wait
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError
from eventlog.feed import Feed
from eventlog.log import FeedFilter
from turns.frames.frames import Frame
from turns.frames.replay import TurnKey
from turns.live_events import FeedEvent, FeedReader, LiveEvents
from turns.turn_streams import TurnStreams

WINDOW_POSITIONS = 5000
PAGE_EVENTS = 500
CATCHING_UP = 2
"""How many readers read the table at once; with more, other reads would wait for connections and processors."""
WAITING_BATCHES = 2
RETRY_INTERVAL_S = 0.5

FeedEvents = list[FeedEvent]
Page = tuple[list[dict[str, Any]], int]
"""Recorded events, and the position up to which the log was read for them."""
ReadPage = Callable[[int], Awaitable[Page]]

_log = logging.getLogger(__name__)


class EventFeeds:
    """The feeds of this process. A reader holds a position and a few batches, however slowly it reads.

    New events come from memory, where all readers share them. Older ones are read from the table in pages.
    """

    def __init__(self, conversations: CommandExecutor, feed: Feed, streams: TurnStreams) -> None:
        self._conversations = conversations
        self._log = conversations.log
        self._feed = feed
        self._streams = streams
        self._live = LiveEvents(self._log, feed)
        self._catching_up = asyncio.Semaphore(CATCHING_UP)
        self._closed = False

    async def events(self, wanted: FeedFilter, after: int | None) -> AsyncGenerator[FeedEvents]:
        """Yield the recorded events that are wanted after a position (None: from now on), without end."""

        async def read(position: int) -> Page:
            return await self._log.feed(wanted, position, min(position + WINDOW_POSITIONS, self._live.head))

        with self._live.reading(after, wanted.conversation_id, partial(_is_wanted, wanted)) as reader:
            async for facts in self._follow(reader, read):
                yield facts

    async def conversation(self, conversation_id: UUID, after: int | None) -> AsyncGenerator[FeedEvents | list[Frame]]:
        """Yield a conversation's recorded events after a position (None: from now on), and its live frames."""
        merged = _Merged()
        try:
            # The head comes first: a turn that starts between the two is heard of, and told from the one that runs.
            joined = self._feed.head
            turn = await self._active_turn(conversation_id)
            if turn is not None:
                merged.add(self._streams.follow(TurnKey(conversation_id, turn.id, turn.first_version), to_the_end=True))
            facts = self._conversation_facts(conversation_id, joined if after is None else after)
            merged.add(facts, to_the_end=True)
            while (batch := await merged.next()) is not None:
                for started in _turns_started(batch, joined):
                    if turn is None or started.turn_id != turn.id:
                        merged.add(self._streams.follow(started, to_the_end=True))
                yield batch
        finally:
            await merged.close()

    def close(self) -> None:
        """End every feed: the server is being stopped."""
        self._closed = True
        self._live.wake_all()

    async def _active_turn(self, conversation_id: UUID) -> ActiveTurn | None:
        while not self._closed:
            try:
                return (await self._conversations.state(conversation_id)).turn
            except UnknownEventError:
                return None  # what a newer release has recorded is shown all the same
            except StoreUnavailableError:
                await asyncio.sleep(RETRY_INTERVAL_S)
        return None

    async def _conversation_facts(self, conversation_id: UUID, after: int) -> AsyncGenerator[FeedEvents]:
        version = 0

        async def read(position: int) -> Page:
            nonlocal version
            head = self._live.head
            found = await self._log.conversation_feed(conversation_id, version, position, PAGE_EVENTS)
            if not found:
                return [], head
            version = found[-1]["version"]
            return found, found[-1]["position"]

        def wants(fact: FeedEvent) -> bool:
            return fact.record["conversation_id"] == conversation_id

        with self._live.reading(after, conversation_id, wants) as reader:
            async for facts in self._follow(reader, read):
                yield facts

    async def _follow(self, reader: FeedReader, read: ReadPage) -> AsyncGenerator[FeedEvents]:
        """Yield what a reader wants, from memory, or from the table where it is not there any longer."""
        while not self._closed:
            facts = await self._page(reader, read) if reader.behind else reader.take()
            if facts:
                yield facts
            elif not reader.pending:
                await reader.rung()

    async def _page(self, reader: FeedReader, read: ReadPage) -> FeedEvents:
        """Read the table, and wait for a store that is away: a feed has no end."""
        try:
            async with self._catching_up:
                times_back = self._live.times_back
                found, position = await read(reader.position)
        except StoreUnavailableError:
            await asyncio.sleep(RETRY_INTERVAL_S)
            return []
        if self._live.times_back != times_back:
            return []  # what was read may be no part of the log
        reader.advance(position)
        return list(map(FeedEvent, found))


class _Merged:
    """Batches of several sources as they come; who takes them slowly holds the sources up."""

    def __init__(self) -> None:
        self._batches: asyncio.Queue[Any] = asyncio.Queue(WAITING_BATCHES)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, source: AsyncGenerator[Any], *, to_the_end: bool = False) -> None:
        """Take batches of a source too; with `to_the_end` nothing follows when it has ended."""
        task = asyncio.create_task(self._drain(source, to_the_end=to_the_end))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def next(self) -> Any:
        return await self._batches.get()

    async def close(self) -> None:
        await cancel_and_wait(self._tasks)

    async def _drain(self, source: AsyncGenerator[Any], *, to_the_end: bool) -> None:
        try:
            async with aclosing(source) as batches:
                async for batch in batches:
                    await self._batches.put(batch)
        except LogError as error:
            _log.warning("a feed ends: %s", error)
            to_the_end = True
        if to_the_end:
            await self._batches.put(None)


def _turns_started(batch: FeedEvents | list[Frame], after: int) -> list[TurnKey]:
    """Return the turns whose start is among these facts, if they were recorded after a position."""
    return [
        TurnKey(record["conversation_id"], UUID(orjson.loads(record["data"])["turn_id"]), record["version"])
        for record in (item.record for item in batch if isinstance(item, FeedEvent))
        if record["type"] == "TurnStarted" and record["position"] > after
    ]


def _is_wanted(wanted: FeedFilter, fact: FeedEvent) -> bool:
    return (
        fact.owner_id == wanted.owner_id
        and wanted.conversation_id in (None, fact.record["conversation_id"])
        and wanted.agent_id in (None, fact.agent_id)
        and wanted.type in (None, fact.record["type"])
    )
