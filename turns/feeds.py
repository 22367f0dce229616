"""Live feeds: what is recorded, as it is recorded, and for one conversation the frames of the turn that runs too."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import orjson

from eventlog.bell import Bell
from eventlog.broadcast import Broadcast
from eventlog.conversations import Conversations
from eventlog.errors import LogError, StoreUnavailableError
from eventlog.feed import Feed
from eventlog.log import FeedFilter
from turns.frames import Frame
from turns.streams import Streams
from turns.turn_log import TurnKey

WINDOW_POSITIONS = 5000
PAGE_EVENTS = 500
WAITING_BATCHES = 2
POLL_INTERVAL_S = 1.0
RETRY_INTERVAL_S = 0.5

T = TypeVar("T")
Facts = list[dict[str, Any]]
"""Recorded events as the log's audit functions give them."""


_log = logging.getLogger(__name__)


class Feeds:
    """The feeds of this process. A reader holds a position and a few batches, however slowly it reads."""

    def __init__(self, conversations: Conversations, feed: Feed, broadcast: Broadcast, streams: Streams) -> None:
        self._conversations = conversations
        self._log = conversations.log
        self._feed = feed
        self._broadcast = broadcast
        self._streams = streams
        self._bells: set[Bell] = set()
        self._closed = False

    async def facts(self, wanted: FeedFilter, after: int | None) -> AsyncGenerator[Facts]:
        """Yield the recorded events that are wanted after a position (None: from now on), without end."""
        position = self._feed.head if after is None else after
        bell = Bell()
        with self._broadcast.heard(wanted.conversation_id, lambda _: bell.ring()):
            while True:
                while position < self._feed.head:
                    upto = min(position + WINDOW_POSITIONS, self._feed.head)
                    facts, position = await _patiently(partial(self._log.feed, wanted, position, upto))
                    if facts:
                        yield facts
                if await self._closes(bell):
                    return

    async def conversation(self, conversation_id: UUID, after: int | None) -> AsyncGenerator[Facts | list[Frame]]:
        """Yield a conversation's recorded events after a position (None: from now on), and its live frames."""
        merged = _Merged()
        try:
            # The head comes first: a turn that starts between the two is heard of, and told from the one that runs.
            joined = self._feed.head
            turn = (await self._conversations.state(conversation_id)).turn
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
        for bell in self._bells:
            bell.ring()

    async def _closes(self, bell: Bell) -> bool:
        """Wait until something was heard, or a while, in case it was missed; return whether feeds are to end."""
        self._bells.add(bell)
        try:
            await bell.rung(POLL_INTERVAL_S)
        finally:
            self._bells.discard(bell)
        return self._closed

    async def _conversation_facts(self, conversation_id: UUID, after: int) -> AsyncGenerator[Facts]:
        version = 0
        bell = Bell()
        with self._broadcast.heard(conversation_id, lambda _: bell.ring()):
            while True:
                while facts := await _patiently(
                    partial(self._log.conversation_feed, conversation_id, version, after, PAGE_EVENTS)
                ):
                    version = facts[-1]["version"]
                    yield facts
                if await self._closes(bell):
                    return


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
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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


def _turns_started(batch: Facts | list[Frame], after: int) -> list[TurnKey]:
    """Return the turns whose start is among these facts, if they were recorded after a position."""
    return [
        TurnKey(fact["conversation_id"], UUID(orjson.loads(fact["data"])["turn_id"]), fact["version"])
        for fact in batch
        if isinstance(fact, dict) and fact["type"] == "TurnStarted" and fact["position"] > after
    ]


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """Read, and wait for a store that is away: a feed has no end."""
    while True:
        try:
            return await read()
        except StoreUnavailableError:
            await asyncio.sleep(RETRY_INTERVAL_S)
