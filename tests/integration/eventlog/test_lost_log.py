"""The log loses its end under running processes, as after a failover or a restore."""

import asyncio

import pytest

from domain.content import TextBlock
from domain.conversation import Conversation
from domain.decisions import conversations, turn_starts
from domain.decisions.conversations import Events
from domain.decisions.turn_starts import TurnIds, TurnSettings
from domain.errors import ConversationNotFoundError, DeltaOutOfOrderError
from domain.events import MessageAdded
from eventlog.clock import new_id
from eventlog.errors import VersionTakenError
from eventlog.feeds.broadcast import Broadcast
from eventlog.image_store import ImageStore
from eventlog.library import LogFactory
from eventlog.mapper import new_row
from projections.catalog import PROJECTIONS
from tests.support.histories.builders import MODEL, Story
from tests.support.store import (
    ALICE,
    HELLO,
    MAPPER,
    PATIENCE_S,
    Store,
    WordTokenizer,
    end_sessions,
    rows,
    started,
    until,
)
from turns.client_turns import ClientTurns
from turns.frames.replay import TurnReader
from turns.upkeep.leases import Leases


def lose_end(conninfo: str, position: int) -> None:
    """Truncate the log to a position, as a restore does, and end every session."""
    rows(conninfo, "ALTER TABLE events DISABLE TRIGGER events_append_only")
    rows(conninfo, "DELETE FROM events WHERE position > %s", [position])
    rows(conninfo, "DELETE FROM snapshots")
    rows(conninfo, "UPDATE head SET position = %s", [position])
    rows(conninfo, "ALTER TABLE events ENABLE TRIGGER events_append_only")
    end_sessions(conninfo)


async def test_an_append_whose_predecessor_is_missing_is_refused_and_moves_nothing(here: Store) -> None:
    story = Story()
    story.say()
    story.say()
    with pytest.raises(VersionTakenError):
        await here.writer.append(list(map(new_row, story.events[1:])))
    other = Story().events
    assert await here.append(other) == 1
    assert await here.append(story.events) == 4


async def test_only_the_append_without_a_predecessor_is_refused_in_a_batch(here: Store) -> None:
    story, other = Story(), Story()
    story.say()
    appends = [here.append(other.events), here.append(story.events[1:]), here.append(Story().events)]
    done = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(item) if isinstance(item, Exception) else item for item in done] == [1, VersionTakenError, 2]


async def test_appends_of_one_batch_may_follow_each_other(here: Store) -> None:
    story = Story()
    story.say()
    story.say()
    appends = [here.append(story.events[n : n + 1]) for n in range(3)]
    assert await asyncio.gather(*appends) == [1, 2, 3]


async def test_a_command_on_a_lost_state_is_decided_again_on_the_state_in_the_log(
    here: Store, database_url: str
) -> None:
    id_ = await started(here)
    for _ in range(4):
        await here.commands.add_message(ALICE, id_, HELLO)
    lose_end(database_url, 3)
    committed = await here.commands.add_message(ALICE, id_, HELLO)
    assert (committed.state.version, committed.state.message_count, committed.position) == (4, 3, 4)
    assert rows(database_url, "SELECT position, version FROM events ORDER BY position") == [(n, n) for n in range(1, 5)]


async def test_a_command_is_decided_again_after_another_process_took_the_lost_versions(
    here: Store, there: Store, database_url: str
) -> None:
    id_ = await started(here)
    await here.commands.add_message(ALICE, id_, HELLO)
    lose_end(database_url, 1)
    await there.commands.update(ALICE, id_, {"title": "anew"})
    committed = await here.commands.add_message(ALICE, id_, HELLO)
    assert (committed.state.title, committed.state.version) == ("anew", 3)


async def test_a_command_on_a_lost_conversation_is_not_found(here: Store, database_url: str) -> None:
    await started(here)
    id_ = await started(here)
    lose_end(database_url, 1)
    with pytest.raises(ConversationNotFoundError):
        await here.commands.add_message(ALICE, id_, HELLO)


async def test_readers_continue_from_the_head_after_the_log_went_back(
    here: Store, there: Store, database_url: str
) -> None:
    for _ in range(5):
        await here.append(Story().events)
    await until(lambda: there.feed.head == 5)
    lose_end(database_url, 2)
    await until(lambda: (here.feed.head, there.feed.head) == (2, 2))
    story = Story()
    assert await here.append(story.events) == 3
    await until(lambda: there.feed.head == 3)
    for store in (here, there):
        assert [item.event.originator_id for item in await store.feed.read(2, 10)] == [story.state.id]


async def test_new_events_are_projected_after_the_log_went_back(here: Store, there: Store, prepared_url: str) -> None:
    async with here.projecting(*PROJECTIONS) as led, there.projecting(*PROJECTIONS) as received:
        await here.append(Story().events)
        await led.wait(1, PATIENCE_S)
        position = 1
        for _ in range(4):
            position = await here.append(Story().events)
        assert await received.wait(position, PATIENCE_S) == []
        rows(prepared_url, "DELETE FROM listing_v3")
        rows(prepared_url, "UPDATE projections SET position = 1")
        lose_end(prepared_url, 1)
        story = Story()
        assert await here.append(story.events) == 2
        assert await led.wait(2, PATIENCE_S) == []
        assert await received.wait(2, PATIENCE_S) == []
        assert rows(prepared_url, "SELECT conversation_id FROM listing") == [(story.state.id,)]


async def test_one_append_may_hold_several_conversations(here: Store) -> None:
    first, second = Story(), Story()
    for story in (first, second):
        story.say()
        story.say()
    mixed = [event for pair in zip(first.events, second.events, strict=True) for event in pair]
    assert await here.append(mixed) == 6


async def test_a_command_that_waits_during_its_decision_is_decided_again_after_the_log_went_back(
    here: Store, there: Store, database_url: str
) -> None:
    """Another process has taken the lost version.

    The predecessor exists, but it is another event.
    """
    id_ = await started(here)
    await here.commands.add_message(ALICE, id_, HELLO)
    draft = await here.commands.draft(HELLO)
    deciding, decide_on = asyncio.Event(), asyncio.Event()
    titles: list[str | None] = []

    async def decide(state: Conversation) -> Events:
        titles.append(state.title)
        deciding.set()
        await decide_on.wait()
        return conversations.add_message(state, ALICE.origin(), draft, draft.id)

    adding = asyncio.create_task(here.conversations.execute(id_, decide))
    await deciding.wait()
    lose_end(database_url, 1)
    await there.commands.update(ALICE, id_, {"title": "other"})
    await started(here)
    decide_on.set()
    committed = await adding
    # Each connection that is made anew begins a generation, so the second decision may be repeated as well.
    assert (titles[0], set(titles[1:])) == (None, {"other"})
    assert committed.state == await there.log.state(id_)


async def test_a_client_resumes_at_the_first_lost_frame_after_the_log_went_back(here: Store, database_url: str) -> None:
    leases = Leases(here.database)
    reader = TurnReader(here.log, WordTokenizer(), ImageStore(here.database))
    turns = ClientTurns(here.conversations, WordTokenizer(), reader, leases)
    here.database.on_new_generation(turns.forget)
    id_, draft, ids = await started(here), await here.commands.draft(HELLO), TurnIds(new_id(), new_id(), new_id())
    settings = TurnSettings(MODEL, generate=False)
    await here.conversations.execute(
        id_, lambda state: turn_starts.start_turn(state, ALICE.origin(), draft, settings, ids)
    )
    seq, kept = await turns.record(ALICE, id_, ids.turn, 2, ["one "])
    for word in ("two ", "three "):
        seq, _ = await turns.record(ALICE, id_, ids.turn, seq, [word])
    assert kept is not None
    lose_end(database_url, kept)
    with pytest.raises(DeltaOutOfOrderError) as refused:
        await turns.record(ALICE, id_, ids.turn, seq, ["four"])
    assert refused.value.next_seq == 3
    for word in ("two ", "three ", "four"):
        next_seq, _ = await turns.record(ALICE, id_, ids.turn, refused.value.next_seq, [word])
        refused.value.next_seq = next_seq
    committed = await turns.complete(ALICE, id_, ids.turn, None, "stop")
    contents = [event.content for event in committed.events if isinstance(event, MessageAdded)]
    assert contents == [(TextBlock(text="one two three four"),)]


async def test_listeners_are_notified_after_the_log_went_back(here: Store, database_url: str) -> None:
    broadcast = Broadcast(here.feed)
    await broadcast.open()
    story = Story()
    for _ in range(6):
        story.say()
    received: list[int] = []
    with broadcast.subscribed(story.state.id, lambda item: received.append(item.event.originator_version)):
        await here.append(story.events)
        await until(lambda: received and received[-1] == 7)
        lose_end(database_url, 2)
        await until(lambda: here.feed.head == 2)
        await here.append(story.events[2:4])
        await until(lambda: received[7:] == [3, 4])
    await broadcast.close()


async def test_the_library_adapter_writes_after_its_sessions_ended(database_url: str) -> None:
    def write() -> None:
        factory = LogFactory({"TURNLOG_DATABASE_URL": database_url})
        try:
            recorder, story = factory.application_recorder(), Story()
            story.say()
            stored = [MAPPER.to_stored_event(event) for event in story.events]
            recorder.insert_events(stored[:1])
            end_sessions(database_url)
            assert recorder.insert_events(stored[1:]) == range(2, 3)
        finally:
            factory.close()

    await asyncio.to_thread(write)
