"""Turns that a process follows but does not run."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest

from commands.commands import Caller
from domain.conversation import Conversation
from domain.decisions import running_turns, turn_starts
from domain.decisions.conversations import Events
from domain.decisions.turn_starts import TurnIds, TurnSettings
from domain.errors import ConversationNotFoundError
from eventlog.errors import StoreUnavailableError
from eventlog.feeds.broadcast import Broadcast
from eventlog.feeds.channels import Channels
from eventlog.image_store import ImageStore
from eventlog.log import Log
from eventlog.mapper import Recorded
from projections.progress import Progress
from tests.support.histories.builders import MODEL, answer, draft, origin, some_id
from tests.support.histories.releases import store_row
from tests.support.store import Store, WordTokenizer, started, until
from turns.cancels import Cancels
from turns.frames.delta_buffer import FlushClock
from turns.frames.replay import TurnKey, TurnReader
from turns.model_run import RunServices, Stop
from turns.queue import TurnQueue
from turns.turn_runner import TurnRunner
from turns.turn_streams import TurnStreams


@pytest.fixture
def reader(here: Store) -> TurnReader:
    return TurnReader(here.log, WordTokenizer(), ImageStore(here.database))


@pytest.fixture
async def broadcast(here: Store) -> AsyncIterator[Broadcast]:
    broadcast = Broadcast(here.feed)
    await broadcast.open()
    yield broadcast
    await broadcast.close()


@pytest.fixture
def runner(here: Store, reader: TurnReader, broadcast: Broadcast) -> TurnRunner:
    unused = cast(Any, None)
    services = RunServices(here.conversations, WordTokenizer(), Progress([]), reader, FlushClock())
    return TurnRunner(services, unused, unused, broadcast, unused)


@pytest.fixture
def queue(here: Store, broadcast: Broadcast) -> TurnQueue:
    unused = cast(Any, None)
    return TurnQueue(here.log, broadcast, unused)


@pytest.fixture
def streams(runner: TurnRunner, queue: TurnQueue, reader: TurnReader, broadcast: Broadcast) -> TurnStreams:
    return TurnStreams(runner, queue, reader, broadcast, Progress([]))


@pytest.fixture
async def key(here: Store) -> TurnKey:
    """The key of a turn that runs in some process."""
    id_, turn_id = await started(here), some_id()

    def decide(state: Conversation) -> Events:
        ids = TurnIds(turn_id, some_id(), some_id())
        return turn_starts.start_turn(state, origin(), draft(), TurnSettings(MODEL), ids)

    await here.conversations.execute(id_, decide)
    return TurnKey(id_, turn_id, 3)


async def test_a_reader_stays_while_the_database_is_down(
    here: Store, streams: TurnStreams, key: TurnKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, away = Log.events, [True, False]

    async def events(self: Log, conversation_id: UUID, *places: int) -> list[Recorded]:
        if away and away.pop(0):
            raise StoreUnavailableError("The store does not answer.")
        return await read(self, conversation_id, *places)

    monkeypatch.setattr(Log, "events", events)
    seen: list[str] = []
    async for frames in streams.follow(key):
        seen += [frame.event for frame in frames]
        if seen == ["turn.started"]:
            await here.conversations.execute(
                key.conversation_id, lambda state: running_turns.complete_turn(state, origin(), key.turn_id, answer())
            )
    assert (seen, away) == (["turn.started", "turn.completed"], [])


@pytest.mark.parametrize("live", [False, True], ids=["replayed", "live"])
async def test_a_followed_turn_skips_unknown_events(
    here: Store, streams: TurnStreams, key: TurnKey, database_url: str, live: bool
) -> None:
    async def go_on() -> None:
        state = await here.conversations.state(key.conversation_id)
        ((_, last),) = await here.log.versions(key.conversation_id, [3])
        row = last.model_copy(update={"originator_version": 4})
        store_row(database_url, row, "MessageWhispered", {"turn_id": str(key.turn_id)})
        await here.append(running_turns.complete_turn(state.at_version(4), origin(), key.turn_id, answer()))

    if not live:
        await go_on()
    seen: list[str] = []
    async for frames in streams.follow(key):
        seen += [frame.event for frame in frames]
        if live and seen == ["turn.started"]:
            await go_on()
    assert seen == ["turn.started", "turn.completed"]


async def test_a_turn_with_unreadable_events_ends_for_its_followers(
    here: Store, streams: TurnStreams, key: TurnKey, database_url: str
) -> None:
    ((_, last),) = await here.log.versions(key.conversation_id, [3])
    row = last.model_copy(update={"originator_version": 4})
    store_row(database_url, row, "TurnCompleted", {"class_version": 99})
    seen = [frame.event async for frames in streams.follow(key) for frame in frames]
    assert seen == []


async def test_a_failing_listener_does_not_stop_the_others(
    here: Store, broadcast: Broadcast, key: TurnKey, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[Recorded] = []
    with (
        broadcast.subscribed(key.conversation_id, _failing),
        broadcast.subscribed(key.conversation_id, received.append),
    ):
        await here.conversations.execute(
            key.conversation_id, lambda state: running_turns.complete_turn(state, origin(), key.turn_id, answer())
        )
        await until(lambda: received)
    assert "a subscriber failed at position" in caplog.text


def _failing(_: Recorded) -> None:
    raise RuntimeError("a defect")


async def test_a_turn_of_another_owner_is_not_stopped(
    here: Store, runner: TurnRunner, reader: TurnReader, key: TurnKey
) -> None:
    class NeverStopped:
        async def stop(self, stop: Stop) -> None:
            raise AssertionError("another owner stopped it")

    cancels = Cancels(here.conversations, reader, runner, Channels(here.database), cast(Any, None))
    runner._running[key.turn_id] = cast(Any, NeverStopped())
    with pytest.raises(ConversationNotFoundError):
        await cancels.cancel(Caller("mallory", "alice"), key.conversation_id, key.turn_id)
