"""A follower gets the wanted events as they are recorded, by notifications."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from cli.reading import following
from cli.reading.following import Follower
from eventlog.errors import StoreUnavailableError
from eventlog.feeds.feed import Feed
from eventlog.log_search import EventFilter, LogSearch
from tests.support.histories.builders import Story, audit_read
from tests.support.store import Store, opened, rows, until
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


@pytest.mark.parametrize("polls", [False, True])
async def test_a_database_that_is_away_for_a_while_is_waited_for(
    database_url: str, postgres: str, here: Store, monkeypatch: pytest.MonkeyPatch, polls: bool
) -> None:
    for name in ("POLL_INTERVAL_S", "HINT_WAIT_S"):
        monkeypatch.setattr(following, name, 0.01)
    failed = 0
    refresh = Feed.refresh

    async def counted(self: Feed) -> None:
        nonlocal failed
        try:
            await refresh(self)
        except StoreUnavailableError:
            failed += 1
            raise

    monkeypatch.setattr(Feed, "refresh", counted)
    async with opened(database_url, listening=not polls) as follower, followed(follower, 0, polls=polls) as found:
        await here.append(Story().events)
        assert await next_positions(found, 1) == [1]
        admit(postgres, database_url, admitted=False)
        await until(lambda: failed > 1)
        admit(postgres, database_url, admitted=True)
        async with opened(database_url) as again:
            await again.append(Story().events)
        assert await next_positions(found, 1) == [2]


async def test_an_outage_that_lasts_is_an_error(
    database_url: str, postgres: str, here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(following, "OUTAGE_S", 0.05)
    follower = Follower(here.feed, LogSearch(here.database), 0, polls=True)
    pages = follower.pages(EventFilter())
    await here.append(Story().events)
    assert [record["position"] for record in await anext(pages)] == [1]
    admit(postgres, database_url, admitted=False)
    try:
        with pytest.raises(StoreUnavailableError):
            await anext(pages)
    finally:
        admit(postgres, database_url, admitted=True)


def admit(postgres: str, conninfo: str, *, admitted: bool) -> None:
    """Let a database accept connections or not. Its sessions end."""
    name = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(postgres, autocommit=True) as connection:
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(statement.format(sql.Identifier(name), admitted))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


async def test_a_log_that_lost_its_newest_events_is_followed_from_its_new_end(
    database_url: str, here: Store, there: Store
) -> None:
    await here.append([event for _ in range(3) for event in Story().events])
    async with followed(there, 0) as found:
        assert await next_positions(found, 3) == [1, 2, 3]
        rows(database_url, "ALTER TABLE events DISABLE TRIGGER events_append_only")
        rows(database_url, "DELETE FROM events WHERE position > 1")
        rows(database_url, "UPDATE head SET position = 1")
        # A late notification of the lost events may hide the loss from one refresh.
        while there.feed.head != 1:
            await there.feed.refresh()
        await here.append([audit_read()])
        assert await next_positions(found, 1) == [2]
