"""Live feeds: what is recorded, as it is recorded, and for one conversation the frames of the turn that runs too."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from eventlog.broadcast import Broadcast
from eventlog.conversations import Conversations
from eventlog.errors import StoreUnavailableError
from eventlog.feed import Feed
from eventlog.log import FeedFilter
from turns.frames import Frame
from turns.turn_log import TurnKey
from turns.turns import Turns

WINDOW_POSITIONS = 5000
PAGE_EVENTS = 500
WAITING_BATCHES = 16
POLL_INTERVAL_S = 1.0
RETRY_INTERVAL_S = 0.5

Facts = list[dict[str, Any]]
"""Recorded events as the log's audit functions give them."""


class Feeds:
    """The feeds of this process. A reader holds a position and a few batches, however slowly it reads."""

    def __init__(self, conversations: Conversations, feed: Feed, broadcast: Broadcast, turns: Turns) -> None:
        self._conversations = conversations
        self._log = conversations.log
        self._feed = feed
        self._broadcast = broadcast
        self._turns = turns

    async def facts(self, wanted: FeedFilter, after: int | None) -> AsyncGenerator[Facts]:
        """Yield the recorded events that are wanted after a position (None: from now on), without end."""
        position = self._feed.head if after is None else after
        bell = asyncio.Event()
        with self._broadcast.heard(wanted.conversation_id, lambda _: bell.set()):
            while True:
                bell.clear()
                while position < self._feed.head:
                    upto = min(position + WINDOW_POSITIONS, self._feed.head)
                    if facts := await _patiently(partial(self._log.feed, wanted, position, upto)):
                        yield facts
                    position = upto
                await _rung(bell)

    async def conversation(self, conversation_id: UUID, after: int | None) -> AsyncGenerator[Facts | list[Frame]]:
        """Yield a conversation's recorded events after a position (None: from now on), and its live frames."""
        merged = _Merged()
        try:
            turn = (await self._conversations.state(conversation_id)).turn
            if turn is not None:
                merged.add(self._turns.follow(TurnKey(conversation_id, turn.id, turn.started_version - 1)))
            joined = self._feed.head
            merged.add(self._conversation_facts(conversation_id, joined if after is None else after))
            while True:
                batch = await merged.next()
                for started in _turns_started(batch, joined):
                    if turn is None or started.turn_id != turn.id:
                        merged.add(self._turns.follow(started))
                yield batch
        finally:
            await merged.close()

    async def _conversation_facts(self, conversation_id: UUID, after: int) -> AsyncGenerator[Facts]:
        version = 0
        bell = asyncio.Event()
        with self._broadcast.heard(conversation_id, lambda _: bell.set()):
            while True:
                bell.clear()
                while facts := await _patiently(
                    partial(self._log.conversation_feed, conversation_id, version, after, PAGE_EVENTS)
                ):
                    version = facts[-1]["version"]
                    yield facts
                await _rung(bell)


class _Merged:
    """Batches of several sources as they come; who takes them slowly holds the sources up."""

    def __init__(self) -> None:
        self._batches: asyncio.Queue[Any] = asyncio.Queue(WAITING_BATCHES)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, source: AsyncGenerator[Any]) -> None:
        task = asyncio.create_task(self._drain(source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def next(self) -> Any:
        return await self._batches.get()

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, source: AsyncGenerator[Any]) -> None:
        async with aclosing(source) as batches:
            async for batch in batches:
                await self._batches.put(batch)


def _turns_started(batch: Facts | list[Frame], after: int) -> list[TurnKey]:
    """Return the turns whose start is among these facts, if they were recorded after a position."""
    return [
        TurnKey(fact["conversation_id"], UUID(orjson.loads(fact["data"])["turn_id"]), fact["version"] - 1)
        for fact in batch
        if isinstance(fact, dict) and fact["type"] == "TurnStarted" and fact["position"] > after
    ]


async def _patiently(read: Callable[[], Awaitable[Facts]]) -> Facts:
    """Read, and wait for a store that is away: a feed has no end."""
    while True:
        try:
            return await read()
        except StoreUnavailableError:
            await asyncio.sleep(RETRY_INTERVAL_S)


async def _rung(bell: asyncio.Event) -> None:
    """Return when something was heard, or after a while, in case it was missed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(POLL_INTERVAL_S):
            await bell.wait()
