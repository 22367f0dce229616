"""Feeds share one reading of the log. Each reader gets its events once in order."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast
from uuid import UUID

import pytest

from commands.executor import CommandExecutor
from domain.events import ConversationEvent
from eventlog.errors import StoreUnavailableError
from eventlog.log import FeedFilter, Log
from tests.integration.eventlog.test_lost_log import lose_end
from tests.support.histories.builders import OWNER, Story
from tests.support.store import ALICE, HELLO, PATIENCE_S, Store, until
from turns import event_feeds as feeds_module
from turns import live_events as events_module
from turns.event_feeds import EventFeeds
from turns.frames.frames import Frame
from turns.live_events import FeedEvent

MINE = FeedFilter(OWNER)


class CountingLog(Log):
    """A log that counts its reads."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.database)
        self.sections = 0
        self.pages = 0
        self.most_pages_at_once = 0
        self.away = False
        self._paging = 0

    async def section_records(self, after: int, upto: int) -> Any:
        self.sections += 1
        if self.away:
            raise StoreUnavailableError("The store does not answer.")
        return await super().section_records(after, upto)

    async def feed_records(self, wanted: FeedFilter, after: int, upto: int) -> Any:
        return await self._counted(super().feed_records(wanted, after, upto))

    async def conversation_records(self, conversation_id: UUID, after_version: int, after: int, limit: int) -> Any:
        return await self._counted(super().conversation_records(conversation_id, after_version, after, limit))

    async def _counted(self, page: Any) -> Any:
        self.pages += 1
        self._paging += 1
        self.most_pages_at_once = max(self.most_pages_at_once, self._paging)
        try:
            return await page
        finally:
            self._paging -= 1


class Reader:
    """A reader of a feed in its own task, which can be paused."""

    def __init__(self, feed: AsyncGenerator[list[FeedEvent] | list[Frame]]) -> None:
        self.facts: list[FeedEvent] = []
        self.held = asyncio.Event()
        self.held.set()
        self._task = asyncio.create_task(self._read(feed))

    @property
    def positions(self) -> list[int]:
        return [fact.position for fact in self.facts]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _read(self, feed: AsyncGenerator[Any]) -> None:
        async with aclosing(feed) as batches:
            async for batch in batches:
                self.facts += batch
                await self.held.wait()


class Reading:
    """The feeds of a store, their log, and the open readers."""

    def __init__(self, store: Store) -> None:
        self.log = CountingLog(store)
        streams = cast(Any, None)
        self.feeds = EventFeeds(CommandExecutor(self.log, store.writer), store.feed, streams)
        self.readers: list[Reader] = []

    def open(self, after: int | None = None, wanted: FeedFilter = MINE) -> Reader:
        self.readers.append(Reader(self.feeds.events(wanted, after)))
        return self.readers[-1]

    def open_conversation(self, conversation_id: UUID, after: int | None = None) -> Reader:
        self.readers.append(Reader(self.feeds.conversation(conversation_id, after)))
        return self.readers[-1]

    @property
    def live(self) -> Any:
        return self.feeds._live  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
async def reading(here: Store) -> AsyncGenerator[Reading]:
    await here.feed.refresh()
    reading = Reading(here)
    yield reading
    await asyncio.gather(*(reader.close() for reader in reading.readers))


async def joined(reading: Reading, number: int) -> None:
    """Wait until this number of readers has joined."""
    await until(lambda: sum(map(len, reading.live._readers.values())) == number)


async def test_many_readers_share_each_section_and_its_encoding(here: Store, reading: Reading) -> None:
    story = Story()
    await here.append(story.events)
    readers = [reading.open() for _ in range(25)] + [reading.open_conversation(story.id) for _ in range(25)]
    await joined(reading, 50)
    for _ in range(10):
        await here.append(story.say())
    await until(lambda: all(reader.positions == list(range(2, 12)) for reader in readers))
    assert reading.log.pages == 0
    assert reading.log.sections <= 10
    first, *others = [reader.facts[-1].data_json for reader in readers]
    assert all(other is first for other in others)


async def test_events_from_memory_equal_those_from_the_table(here: Store, reading: Reading) -> None:
    live = reading.open()
    await joined(reading, 1)
    story = Story(agent_id="a", title="Grüße\n")
    await here.append([*story.events, *story.say("\x01 𝄞"), *story.rename(title="two")])
    await until(lambda: len(live.facts) == 3)
    read = await here.log.conversation_records(story.id, 0, 0, 10)
    assert [fact.data_json for fact in live.facts] == [FeedEvent(record).data_json for record in read]
    assert reading.log.pages == 0


async def test_each_reader_gets_the_events_of_its_filter(here: Store, reading: Reading) -> None:
    conversations = {"mine": Story(agent_id="a"), "other agent": Story(agent_id="b"), "other owner": Story(owner="bob")}
    await here.append([event for story in conversations.values() for event in story.events])
    mine = conversations["mine"].id
    wanted = {
        "all": FeedFilter(OWNER),
        "bob's": FeedFilter("bob"),
        "agent": FeedFilter(OWNER, agent_id="a"),
        "type": FeedFilter(OWNER, type="MessageAdded"),
        "conversation": FeedFilter(OWNER, conversation_id=mine),
        "type of a conversation": FeedFilter(OWNER, conversation_id=mine, type="ConversationUpdated"),
        "conversation of another": FeedFilter("bob", conversation_id=mine),
    }
    live = {name: reading.open(None, each) for name, each in wanted.items()}
    await joined(reading, len(live))
    for story in conversations.values():
        await here.append(story.say())
        await here.append(story.rename(title="x"))
    new = Story(agent_id="a")
    await here.append(new.events)
    expected = {
        "all": [4, 5, 6, 7, 10],
        "bob's": [8, 9],
        "agent": [4, 5, 10],
        "type": [4, 6],
        "conversation": [4, 5],
        "type of a conversation": [5],
        "conversation of another": [],
    }
    await until(lambda: {name: reader.positions for name, reader in live.items()} == expected)
    read = {name: reading.open(3, each) for name, each in wanted.items()}
    await until(lambda: {name: reader.positions for name, reader in read.items()} == expected)


@pytest.mark.parametrize("seed", range(5))
async def test_readers_that_join_and_pause_at_random_get_every_event_once_in_order(
    here: Store, reading: Reading, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(events_module, "KEPT_EVENTS", 5)
    monkeypatch.setattr(events_module, "SECTION_EVENTS", 3)
    monkeypatch.setattr(feeds_module, "WINDOW_POSITIONS", 4)
    monkeypatch.setattr(feeds_module, "PAGE_EVENTS", 2)
    chance = random.Random(seed)
    stories = [Story(), Story(), Story()]
    recorded: list[ConversationEvent] = [event for story in stories for event in story.events]
    await here.append(recorded)
    opened: list[tuple[Reader, int, UUID | None]] = []
    for _ in range(60):
        after = chance.choice([None, chance.randrange(len(recorded) + 1)])
        wanted = chance.choice([None, chance.choice(stories).id])
        if chance.random() < 0.4:
            begins = len(recorded) if after is None else after
            if wanted is None or chance.random() < 0.5:
                reader = reading.open(after, FeedFilter(OWNER, conversation_id=wanted))
            else:
                reader = reading.open_conversation(wanted, after)
            opened.append((reader, begins, wanted))
            await joined(reading, len(opened))
        for reader, *_ in opened:
            (reader.held.set if chance.random() < 0.5 else reader.held.clear)()
        new_events = [event for story in chance.choices(stories, k=chance.randrange(4)) for event in story.say()]
        if new_events:
            await here.append(new_events)
            recorded += new_events
    for reader, *_ in opened:
        reader.held.set()
    for reader, begins, wanted in opened:
        positions = [
            position
            for position, event in enumerate(recorded, start=1)
            if position > begins and wanted in (None, event.originator_id)
        ]
        await until(lambda reader=reader, positions=positions: len(reader.facts) >= len(positions))
        assert reader.positions == positions
    assert len(reading.live._events) <= 5


async def test_a_slow_reader_delays_no_other_and_continues_from_the_table(
    here: Store, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "KEPT_BYTES", 1000)
    story = Story()
    await here.append(story.events)
    slow, quick = reading.open(), reading.open()
    await joined(reading, 2)
    slow.held.clear()
    for number in range(50):
        await here.append(story.say("word " * 20))
        await until(lambda number=number: len(quick.facts) == number + 1)
    assert len(slow.facts) == 1
    assert reading.live._size <= 1000
    assert reading.log.pages == 0
    slow.held.set()
    await until(lambda: slow.positions == list(range(2, 52)))
    assert reading.log.pages > 0


async def test_a_reader_without_events_for_long_continues_in_memory(
    here: Store, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "KEPT_EVENTS", 3)
    quiet, loud = Story(), Story()
    await here.append([*quiet.events, *loud.events])
    readers = [reading.open_conversation(quiet.id), reading.open(wanted=FeedFilter(OWNER, conversation_id=quiet.id))]
    await joined(reading, 2)
    for _ in range(10):
        await here.append(loud.say())
    await until(lambda: reading.live.head == 12)
    await here.append(quiet.say())
    await until(lambda: all(reader.positions == [13] for reader in readers))
    assert reading.log.pages == 0


async def test_few_readers_catch_up_concurrently(here: Store, reading: Reading) -> None:
    story = Story()
    await here.append([*story.events, *(event for _ in range(40) for event in story.say())])
    readers = [reading.open(0) for _ in range(20)] + [reading.open_conversation(story.id, 0) for _ in range(20)]
    await until(lambda: all(len(reader.facts) == 41 for reader in readers))
    assert reading.log.most_pages_at_once <= feeds_module.TABLE_READERS


async def test_a_future_position_is_waited_for(here: Store, reading: Reading) -> None:
    story = Story()
    await here.append(story.events)
    reader, other = reading.open(4), reading.open()
    await joined(reading, 2)
    for _ in range(5):
        await here.append(story.say())
    await until(lambda: len(other.facts) == 5)
    await until(lambda: reader.positions == [5, 6])


async def test_the_last_reader_ends_the_reading_and_the_next_starts_it_again(here: Store, reading: Reading) -> None:
    story = Story()
    await here.append(story.events)
    reader = reading.open()
    await joined(reading, 1)
    await reader.close()
    await until(lambda: not reading.live._running)
    sections = reading.log.sections
    await here.append(story.say())
    assert reading.log.sections == sections
    again = reading.open(1)
    await until(lambda: again.positions == [2])
    await here.append(story.say())
    await until(lambda: again.positions == [2, 3])


async def test_a_lost_database_is_waited_for(here: Store, reading: Reading) -> None:
    story = Story()
    await here.append(story.events)
    reader = reading.open()
    await joined(reading, 1)
    reading.log.away = True
    await here.append(story.say())
    await until(lambda: reading.log.sections > 2)
    assert not reader.facts
    reading.log.away = False
    await until(lambda: reader.positions == [2])


async def test_a_log_that_went_back_is_followed_from_its_head(here: Store, reading: Reading, database_url: str) -> None:
    story = Story()
    await here.append([*story.events, *story.say(), *story.say()])
    reader, one = reading.open(), reading.open_conversation(story.id)
    await joined(reading, 2)
    await here.append(story.say())
    await until(lambda: reader.positions == one.positions == [4])
    lose_end(database_url, 2)
    await until(lambda: here.feed.head == 2)
    again = await here.commands.add_message(ALICE, story.id, HELLO)
    assert again.position == 3
    await until(lambda: reader.positions == one.positions == [4, 3])


async def test_feeds_end_when_they_are_closed(here: Store, reading: Reading) -> None:
    story = Story()
    await here.append(story.events)
    reading.open()
    reading.open_conversation(story.id)
    await joined(reading, 2)
    reading.feeds.close()
    done, _ = await asyncio.wait([reader._task for reader in reading.readers], timeout=PATIENCE_S)
    assert len(done) == 2
