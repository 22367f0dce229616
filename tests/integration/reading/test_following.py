"""A follower gets the wanted events as they are recorded, by notifications."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cli.reading import following
from cli.reading.following import Follower
from eventlog.log_search import EventFilter, LogSearch
from tests.support.histories.builders import Story, audit_read
from tests.support.store import Store, opened, rows
from tests.support.waiting import NEVER_S, PATIENCE_S


@asynccontextmanager
async def followed(
    store: Store, position: int, wanted: EventFilter | None = None, *, polls: bool = False
) -> AsyncGenerator[asyncio.Queue[dict[str, Any]]]:
    """Yield the queue of the records that a follower finds."""
    found: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def follow() -> None:
        follower = Follower(store.feed, LogSearch(store.database), position, polls=polls)
        async for records in follower.pages(wanted or EventFilter()):
            for record in records:
                found.put_nowait(record)

    task = asyncio.create_task(follow())
    try:
        yield found
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def next_positions(found: asyncio.Queue[dict[str, Any]], count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE_S):
        return [(await found.get())["position"] for _ in range(count)]


async def test_events_of_another_process_arrive_without_a_poll(
    here: Store, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "HINT_WAIT_S", NEVER_S)
    await here.append(Story().events)
    async with followed(there, 0) as found:
        assert await next_positions(found, 1) == [1]
        for expected in (2, 3, 4):
            await here.append([audit_read()])
            assert await next_positions(found, 1) == [expected]


async def test_only_the_wanted_events_after_the_position_arrive(here: Store, there: Store) -> None:
    story = Story()
    story.ask()
    await here.append(story.events)
    async with followed(there, 3, EventFilter("MessageAdded")) as found:
        await here.append([*story.complete(), *story.say()])
        assert await next_positions(found, 2) == [4, 6]
    assert found.empty()


async def test_many_events_at_once_arrive_in_order(here: Store, there: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAGE_EVENTS", 7)
    async with followed(there, 0) as found:
        await here.append([event for _ in range(100) for event in Story().events])
        assert await next_positions(found, 100) == list(range(1, 101))


async def test_without_notifications_the_log_is_polled(
    database_url: str, here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_INTERVAL_S", 0.01)
    async with opened(database_url, listening=False) as deaf, followed(deaf, 0, polls=True) as found:
        await here.append(Story().events)
        assert await next_positions(found, 1) == [1]


async def test_a_log_that_lost_its_newest_events_is_followed_from_its_new_end(
    database_url: str, here: Store, there: Store
) -> None:
    await here.append([event for _ in range(3) for event in Story().events])
    async with followed(there, 0) as found:
        assert await next_positions(found, 3) == [1, 2, 3]
        rows(database_url, "ALTER TABLE events DISABLE TRIGGER events_append_only")
        rows(database_url, "DELETE FROM events WHERE position > 1")
        rows(database_url, "UPDATE head SET position = 1")
        await there.feed.refresh()
        await here.append([audit_read()])
        assert await next_positions(found, 1) == [2]
