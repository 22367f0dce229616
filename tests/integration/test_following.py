"""Turns as a process sees them that does not run them, or has no say in them."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest

from domain import decisions
from domain.conversation import Conversation
from domain.decisions import Events, TurnSettings
from domain.errors import ConversationNotFoundError
from eventlog.broadcast import Broadcast
from eventlog.commands import Caller
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from eventlog.mapper import Recorded
from projections.progress import Progress
from tests.support.builders import MODEL, answer, draft, origin, some_id
from tests.support.store import ALICE, Store, WordTokenizer, opened
from turns.run import Stop
from turns.turn_log import TurnKey
from turns.turns import Turns


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as store:
        yield store


@pytest.fixture
async def turns(here: Store) -> AsyncIterator[Turns]:
    unused = cast(Any, None)
    broadcast = Broadcast(here.feed)
    await broadcast.open()
    yield Turns(here.commands, WordTokenizer(), unused, unused, Progress([]), broadcast, unused)
    await broadcast.close()


@pytest.fixture
async def key(here: Store) -> TurnKey:
    """A turn that runs somewhere."""
    id_, turn_id = (await here.commands.start(ALICE)).state.id, some_id()

    def decide(state: Conversation) -> Events:
        return decisions.start_turn(state, origin(), draft(), TurnSettings(MODEL), turn_id=turn_id, answer_id=some_id())

    await here.conversations.execute(id_, decide)
    return TurnKey(id_, turn_id, 2)


async def test_a_reader_stays_while_the_store_is_away(
    here: Store, turns: Turns, key: TurnKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, away = Log.events, [True, False]

    async def events(self: Log, conversation_id: UUID, first: int = 1, **limits: int) -> list[Recorded]:
        if away and away.pop(0):
            raise StoreUnavailableError("The store does not answer.")
        return await read(self, conversation_id, first, **limits)

    monkeypatch.setattr(Log, "events", events)
    seen: list[str] = []
    async for frames in turns.follow(key):
        seen += [frame.event for frame in frames]
        if seen == ["turn.started"]:
            await here.conversations.execute(
                key.conversation_id, lambda state: decisions.complete_turn(state, origin(), key.turn_id, answer())
            )
    assert (seen, away) == (["turn.started", "turn.completed"], [])


async def test_a_turn_of_another_owner_is_not_stopped(turns: Turns, key: TurnKey) -> None:
    class NeverStopped:
        async def stop(self, stop: Stop) -> None:
            raise AssertionError("another owner stopped it")

    turns._running[key.turn_id] = cast(Any, NeverStopped())
    with pytest.raises(ConversationNotFoundError):
        await turns.cancel(Caller("mallory"), key.conversation_id, key.turn_id)
