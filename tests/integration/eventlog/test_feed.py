"""The feed delivers every event once, in order, with or without notifications."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from eventlog import log
from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError
from eventlog.feeds import channels
from eventlog.feeds.channels import Channels
from eventlog.feeds.feed import TAIL_EVENTS, Feed
from eventlog.log import Log
from eventlog.mapper import UnknownEvent
from tests.support.histories.builders import Story, one_of_each
from tests.support.store import PATIENCE_S, Store, opened, rows, until
from tests.support.waiting import NEVER_S


@pytest.fixture
def _no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch polling off, so that only notifications wake the feed."""
    monkeypatch.setattr(channels, "POLL_INTERVAL_S", NEVER_S)


async def follow(feed: Feed, upto: int, limit: int = 100) -> list[int]:
    """Return the positions that a reader from the start of the log sees, up to `upto`."""
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        with feed.subscribed() as wakeup:
            while not seen or seen[-1] < upto:
                batch = await feed.read(seen[-1] if seen else 0, limit)
                seen += [item.position for item in batch]
                if not batch:
                    await wakeup.wait(NEVER_S)
    return seen


async def listening(conninfo: str, processes: int) -> None:
    """Wait until this number of processes listens to the log."""
    statement = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    await until(lambda: len(rows(conninfo, statement)) == processes)


@pytest.mark.usefixtures("_no_polling")
async def test_events_of_another_process_are_notified(here: Store, there: Store, database_url: str) -> None:
    await listening(database_url, 2)
    reader = asyncio.create_task(follow(there.feed, 3))
    for _ in range(3):
        await here.append(Story().events)
    assert await reader == [1, 2, 3]


@pytest.mark.usefixtures("_no_polling")
async def test_a_reader_sees_every_event_once_in_order_while_two_processes_write(
    here: Store, there: Store, database_url: str
) -> None:
    await listening(database_url, 2)
    total = 2 * 40 * len(one_of_each())
    readers = [asyncio.create_task(follow(store.feed, total, limit=7)) for store in (here, there)]

    async def write(store: Store) -> None:
        for _ in range(40):
            await store.append(one_of_each())

    await asyncio.gather(write(here), write(there))
    assert [await reader for reader in readers] == [list(range(1, total + 1))] * 2


async def test_events_without_a_notification_are_found_by_polling(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "POLL_INTERVAL_S", 0.02)
    await listening(database_url, 1)
    async with opened(database_url, listening=False) as silent:
        await silent.append(Story().events)
        assert await follow(here.feed, 1) == [1]


@pytest.mark.usefixtures("_no_polling")
async def test_events_from_before_the_start_of_the_process_are_found(database_url: str) -> None:
    async with opened(database_url, listening=False) as silent:
        await silent.append(one_of_each())
    async with opened(database_url) as late:
        assert await follow(late.feed, len(one_of_each())) == list(range(1, len(one_of_each()) + 1))


@pytest.mark.usefixtures("_no_polling")
async def test_a_listener_whose_connection_was_killed_listens_again(
    here: Store, there: Store, database_url: str
) -> None:
    await listening(database_url, 2)
    rows(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%%'",
    )
    await here.append(Story().events)
    assert await follow(there.feed, 1) == [1]


@pytest.mark.usefixtures("_no_polling")
async def test_two_logs_in_one_database_do_not_notify_each_other(here: Store, database_url: str) -> None:
    from eventlog.migrations import migrate

    await asyncio.to_thread(migrate, database_url, "other_log")
    async with opened(database_url, "other_log") as other:
        await listening(database_url, 2)
        await other.append(Story().events)
        await other.append(Story().events)
        await here.append(Story().events)
        await until(lambda: here.feed.head)
        assert (here.feed.head, other.feed.head) == (1, 2)


async def test_pending_notifications_are_coalesced_into_the_last(database_url: str) -> None:
    received: list[str | None] = []
    async with AsyncExitStack() as stack:
        database = Database(database_url)
        await database.open()
        stack.push_async_callback(database.close)
        listener = Channels(database)
        listener.subscribe("events", received.append)
        await listener.open()
        stack.push_async_callback(listener.close)
        await until(lambda: received)
        for number in range(1000):
            listener.notify_soon("events", lambda number=number: str(number))
        await until(lambda: "999" in received)
    assert len([payload for payload in received if payload is not None]) < 10


async def test_an_unknown_notification_does_not_end_the_listening(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[str] = []

    def receive(payload: str | None) -> None:
        if payload == "a riddle":
            raise ValueError(payload)
        received.append(payload or "")

    async with AsyncExitStack() as stack:
        database = Database(database_url)
        await database.open()
        stack.push_async_callback(database.close)
        listener = Channels(database)
        listener.subscribe("events", receive)
        await listener.open()
        stack.push_async_callback(listener.close)
        await until(lambda: received)
        listener.notify_soon("events", lambda: "a riddle")
        await until(lambda: "listen failed" in caplog.text)
        await until(lambda: listener.notify_soon("events", lambda: "clear") or "clear" in received)


async def test_the_tail_in_memory_equals_the_table(here: Store, database_url: str) -> None:
    events = one_of_each()
    await here.append(events)
    async with opened(database_url, listening=False) as other:
        await other.feed.refresh()
        assert await here.feed.read(0, 100) == await other.feed.read(0, 100)
    assert [item.event for item in await here.feed.read(0, 100)] == events


async def test_a_reader_far_behind_the_tail_continues_without_a_gap(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        story = Story()
        for _ in range(TAIL_EVENTS + 500):
            story.say()
        await store.append(story.events)
        assert await follow(store.feed, len(story.events), limit=400) == list(range(1, len(story.events) + 1))


async def test_large_events_come_in_small_batches_and_at_least_one_at_a_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_READ_BYTES", 1000)
    async with opened(database_url, listening=False) as store:
        story = Story()
        words = [str(number) * 700 for number in range(5)]
        for word in words:
            story.say(" ".join(f"{word}{n}" for n in range(3)))
        await store.append(story.events)
        sizes: list[int] = []
        position = 0
        while found := await store.log.after(position, 100):
            assert found[0].position == position + 1
            position = found[-1].position
            sizes.append(len(found))
    assert position == 6
    assert len(sizes) > 1


async def test_a_reader_at_the_end_reads_nothing(here: Store) -> None:
    assert await here.feed.read(0, 10) == []
    await here.append(Story().events)
    assert await here.feed.read(1, 10) == []


async def test_a_page_has_at_most_the_given_number_of_events(here: Store) -> None:
    await here.append(one_of_each())
    assert [item.position for item in await here.feed.read(2, 3)] == [3, 4, 5]


async def test_an_event_of_a_newer_release_is_delivered_in_order_as_unknown(here: Store, database_url: str) -> None:
    rows(database_url, "UPDATE head SET position = 1")
    rows(
        database_url,
        "INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, recorded_at, digest) "
        "VALUES (1, 'conversation', gen_random_uuid(), 1, 'MessagePinned', '{}', 'alice', '2026-01-02', '')",
    )
    await here.feed.refresh()
    ((position, event),) = await here.feed.read(0, 10)
    assert isinstance(event, UnknownEvent)
    assert (position, event.stored_type, event.known_type, event.originator_version) == (1, "MessagePinned", None, 1)


async def test_reading_continues_after_the_connections_of_the_pool_were_killed(here: Store, database_url: str) -> None:
    await here.append(Story().events)
    rows(
        database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'turnlog'",
    )
    assert await here.log.head() == 1


async def test_a_failed_poll_is_not_an_unhandled_error(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    polls: list[str] = []
    unhandled: list[object] = []

    async def failing_head(self: Log) -> int:
        polls.append("head")
        raise StoreUnavailableError("The store does not answer.")

    monkeypatch.setattr(Log, "head", failing_head)
    monkeypatch.setattr(channels, "POLL_INTERVAL_S", 0.01)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    await until(lambda: len(polls) > 3)
    assert not unhandled


async def test_a_missing_database_is_unavailable(database_url: str) -> None:
    database = Database(f"{database_url} dbname=absent")
    with pytest.raises(StoreUnavailableError):
        await database.connect()
