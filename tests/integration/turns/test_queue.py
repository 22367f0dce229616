"""The queue of one process: queued turns, their leases, and closing."""

import asyncio
from typing import Any

import pytest

from domain.errors import ConversationLockedError, TurnNotActiveError
from domain.events import TurnQueued
from eventlog.errors import StoreUnavailableError, UnknownEventError
from eventlog.feeds.broadcast import Broadcast
from tests.support.histories.builders import Story, some_id
from tests.support.histories.releases import store_row
from tests.support.store import PATIENCE_S, Store, until
from turns import queue as queue_module
from turns.frames.replay import TurnKey
from turns.queue import TurnQueue


class RecordingLeases:
    """Leases that only record their calls."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    def drop(self, _: object) -> None:
        self.requests.append("drop")

    def let_expire(self, _: object) -> None:
        self.requests.append("let expire")

    async def release(self, _: object) -> None:
        self.requests.append("release")

    async def take_over(self, _: object) -> bool:
        self.requests.append("take over")
        return True


async def queued(here: Store) -> TurnKey:
    """Record a queued turn and return its key."""
    story = Story()
    story.ask()
    (event,) = story.queue()
    assert isinstance(event, TurnQueued)
    await here.append(story.events)
    return TurnKey(story.id, event.turn_id, event.originator_version)


def queue_with(here: Store, leases: RecordingLeases, start: Any) -> TurnQueue:
    stand_in: Any = leases
    queue = TurnQueue(here.log, Broadcast(here.feed), stand_in)
    queue.open(start)
    return queue


async def test_a_turn_that_may_have_started_here_is_left_to_the_recovery_of_its_lease(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "RETRY_INTERVAL_S", 0.01)
    leases, key, answers = (
        RecordingLeases(),
        await queued(here),
        [StoreUnavailableError("away"), TurnNotActiveError(some_id())],
    )

    async def start(*_: Any) -> None:
        raise answers.pop(0)

    queue = queue_with(here, leases, start)
    await queue.add(key)
    await asyncio.wait_for(queue.wait_until_started(key.turn_id), PATIENCE_S)
    assert leases.requests == ["let expire"]


async def test_a_turn_of_an_unreadable_conversation_is_left_to_a_newer_release(here: Store) -> None:
    leases, key = RecordingLeases(), await queued(here)

    async def start(*_: Any) -> None:
        raise UnknownEventError("MessagePinned version 1 is unknown")

    queue = queue_with(here, leases, start)
    await queue.add(key)
    await asyncio.wait_for(queue.wait_until_started(key.turn_id), PATIENCE_S)
    await queue.close()
    assert leases.requests == ["let expire"]


async def test_a_waiting_turn_is_tried_again_after_an_unknown_event(here: Store, database_url: str) -> None:
    leases, key, tried, broadcast = RecordingLeases(), await queued(here), list[str](), Broadcast(here.feed)

    async def start(*_: Any) -> None:
        tried.append("start")
        if len(tried) == 1:
            raise ConversationLockedError(key.conversation_id, key.turn_id)

    stand_in: Any = leases
    await broadcast.open()
    queue = TurnQueue(here.log, broadcast, stand_in)
    queue.open(start)
    await queue.add(key)
    await until(lambda: tried)
    (waiting,) = [item.event for item in await here.log.versions(key.conversation_id, [key.begun_version])]
    next_event = waiting.model_copy(update={"originator_version": key.begun_version + 1})
    store_row(database_url, next_event, "TurnCompleted", {"class_version": 99})
    await here.feed.refresh()
    await asyncio.wait_for(queue.wait_until_started(key.turn_id), PATIENCE_S)
    assert tried == ["start", "start"]
    await broadcast.close()


async def test_a_closed_queue_releases_waiting_turns_and_accepts_none_back(here: Store) -> None:
    leases, key, refused = RecordingLeases(), await queued(here), asyncio.Event()

    async def start(*_: Any) -> None:
        refused.set()
        raise ConversationLockedError(key.conversation_id, key.turn_id)

    queue = queue_with(here, leases, start)
    await queue.add(key)
    await asyncio.wait_for(refused.wait(), PATIENCE_S)
    await queue.close()
    assert leases.requests == ["release"]
    with pytest.raises(StoreUnavailableError):
        await queue.adopt(key)  # or else the lease would be removed as no longer needed
    assert leases.requests == ["release"]
    await queue.add(key)
    assert leases.requests == ["release", "release"]


async def test_closing_a_queue_waits_for_a_start_that_is_being_recorded(here: Store) -> None:
    leases, key = RecordingLeases(), await queued(here)
    recording, recorded = asyncio.Event(), asyncio.Event()

    async def start(*_: Any) -> None:
        recording.set()
        await recorded.wait()

    queue = queue_with(here, leases, start)
    await queue.add(key)
    await asyncio.wait_for(recording.wait(), PATIENCE_S)
    closing = asyncio.create_task(queue.close())
    await until(lambda: queue._closed)
    assert not closing.done()
    recorded.set()
    await asyncio.wait_for(closing, PATIENCE_S)
    assert leases.requests == []
