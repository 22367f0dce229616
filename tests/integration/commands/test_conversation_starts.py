"""The starts of conversations with an agent that limits them, in two processes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from commands.agent_commands import AgentCommands
from commands.agent_definitions import AgentDefinitions
from commands.conversation_starts import ConversationStarts, CountLive, DecideStart
from commands.executor import CommandExecutor, Committed
from domain.agent import AgentDefined, AgentSettings
from domain.decisions.conversations import Events, start_conversation
from domain.errors import ConversationLimitReachedError, WriteConflictError
from domain.events import ConversationStarted
from eventlog.errors import StoreUnavailableError
from tests.support.histories.agents import LABEL
from tests.support.histories.builders import OWNER, origin, some_id
from tests.support.losing_writer import LosingWriter
from tests.support.store import ALICE, Store, rows, value

Act = Callable[[], Awaitable[None]]
NUMBERS = "SELECT (data ->> 'agent_number')::integer FROM events WHERE type = 'ConversationStarted' ORDER BY position"


async def limit(store: Store, at_most: int | None, *, shared: bool = False) -> None:
    """Define the agent, with a limit or without one."""
    settings = AgentSettings(max_conversations=at_most)
    await AgentCommands(store.log, store.writer).define(ALICE, LABEL, settings, shared=shared)


def new_conversation(owner: str = OWNER) -> DecideStart:
    conversation_id = some_id()

    async def decide(_: AgentDefined | None) -> Events:
        return start_conversation(conversation_id, origin(owner), agent_id=LABEL)

    return decide


def starts_of(store: Store, count_live: CountLive) -> ConversationStarts:
    return ConversationStarts(store.conversations, AgentDefinitions(store.log), count_live)


async def none(*_: Any) -> int:
    return 0


def between_count_and_append(act: Act, then: CountLive = none) -> CountLive:
    """Return a count that is 0 twice, and acts the second time.

    The first count of a start is made before it waits for its turn, the second after it has read its number.
    """
    counts: list[int] = []

    async def count(*arguments: Any) -> int:
        counts.append(0)
        if len(counts) == 2:
            await act()
        return await then(*arguments) if len(counts) > 2 else 0

    return count


def recorded_starts(database_url: str) -> CountLive:
    async def count(*_: Any) -> int:
        return value(database_url, "SELECT count(*)::integer FROM events WHERE type = 'ConversationStarted'")

    return count


async def test_of_two_starts_that_were_decided_on_one_count_only_one_is_recorded(
    database_url: str, here: Store, there: Store
) -> None:
    both = asyncio.Barrier(2)

    async def wait_for_the_other() -> None:
        await both.wait()

    await limit(here, 1)
    count = recorded_starts(database_url)
    processes = [starts_of(store, between_count_and_append(wait_for_the_other, count)) for store in (here, there)]
    found = await asyncio.gather(
        *(each.record(OWNER, LABEL, new_conversation(), None) for each in processes), return_exceptions=True
    )
    assert {type(each) for each in found} == {Committed, ConversationLimitReachedError}
    assert rows(database_url, NUMBERS) == [(1,)]


async def test_a_start_keeps_to_a_limit_that_was_lowered_meanwhile(
    database_url: str, here: Store, there: Store
) -> None:
    async def lower() -> None:
        await limit(there, 1)
        await starts_of(there, none).record(OWNER, LABEL, new_conversation(), None)

    await limit(here, 5)
    starts = starts_of(here, between_count_and_append(lower, recorded_starts(database_url)))
    with pytest.raises(ConversationLimitReachedError, match="at most 1 "):
        await starts.record(OWNER, LABEL, new_conversation(), None)
    assert rows(database_url, NUMBERS) == [(1,)]


async def test_a_start_goes_on_if_its_limit_was_removed_meanwhile(database_url: str, here: Store, there: Store) -> None:
    async def remove() -> None:
        await starts_of(there, none).record(OWNER, LABEL, new_conversation(), None)
        await limit(there, None)

    await limit(here, 1)
    starts = starts_of(here, between_count_and_append(remove, recorded_starts(database_url)))
    await starts.record(OWNER, LABEL, new_conversation(), None)
    assert rows(database_url, NUMBERS) == [(1,), (2,)]


async def test_a_start_is_decided_on_the_definition_that_limits_it(here: Store, there: Store) -> None:
    decided: list[int | None] = []

    async def replace() -> None:
        await limit(there, 4)
        await starts_of(there, none).record(OWNER, LABEL, new_conversation(), None)

    async def decide(agent: AgentDefined | None) -> Events:
        assert agent is not None
        decided.append(agent.max_conversations)
        return await new_conversation()(agent)

    await limit(here, 5)
    await starts_of(here, between_count_and_append(replace)).record(OWNER, LABEL, decide, None)
    assert decided == [5, 4]


async def test_starts_at_the_limit_do_not_wait_for_one_that_is_being_recorded(here: Store) -> None:
    counting, go_on, live = asyncio.Event(), asyncio.Event(), [0, 0, 1]

    async def count(*_: Any) -> int:
        found = live.pop(0)
        if len(live) == 1:
            counting.set()
            await go_on.wait()
        return found

    await limit(here, 1)
    starts = starts_of(here, count)
    first = asyncio.create_task(starts.record(OWNER, LABEL, new_conversation(), None))
    await counting.wait()
    with pytest.raises(ConversationLimitReachedError):
        await starts.record(OWNER, LABEL, new_conversation(), None)
    assert not first.done()
    go_on.set()
    await first


async def test_many_starts_at_once_take_one_number_each(database_url: str, here: Store, there: Store) -> None:
    await limit(here, 5)
    processes = [starts_of(store, none) for store in (here, there)]
    await asyncio.gather(
        *(processes[number % 2].record(OWNER, LABEL, new_conversation(), None) for number in range(20))
    )
    assert [row[0] for row in rows(database_url, NUMBERS)] == list(range(1, 21))


async def test_each_owner_has_numbers_of_its_own(database_url: str, here: Store) -> None:
    await limit(here, 5, shared=True)
    starts = starts_of(here, none)
    for owner in ("alice", "bob", "alice"):
        await starts.record(owner, LABEL, new_conversation(owner), None)
    assert [row[0] for row in rows(database_url, NUMBERS)] == [1, 1, 2]


async def test_the_limit_is_that_of_the_owners_agent_if_it_hides_a_shared_one(here: Store) -> None:
    async def two(*_: Any) -> int:
        return 2

    await limit(here, 2, shared=True)
    await limit(here, 3)
    starts = starts_of(here, two)
    await starts.record(OWNER, LABEL, new_conversation(), None)
    with pytest.raises(ConversationLimitReachedError, match="at most 2 "):
        await starts.record("bob", LABEL, new_conversation("bob"), None)


async def test_a_start_without_a_limit_counts_nothing_and_has_no_number(here: Store) -> None:
    async def never(*_: Any) -> int:
        raise AssertionError

    starts = starts_of(here, never)

    async def number(label: str | None) -> int | None:
        started = (await starts.record(OWNER, label, new_conversation(), None)).events[0]
        assert isinstance(started, ConversationStarted)
        return started.agent_number

    assert [await number(None), await number(LABEL)] == [None, None]
    await limit(here, None)
    assert await number(LABEL) is None


async def test_a_start_that_cannot_be_counted_is_refused(database_url: str, here: Store) -> None:
    await limit(here, 1)
    starts = ConversationStarts(here.conversations, AgentDefinitions(here.log))
    with pytest.raises(StoreUnavailableError):
        await starts.record(OWNER, LABEL, new_conversation(), None)
    assert rows(database_url, NUMBERS) == []


async def test_a_start_that_loses_every_race_is_a_conflict(here: Store) -> None:
    await limit(here, 1)
    losing = CommandExecutor(here.log, LosingWriter(here.database))
    starts = ConversationStarts(losing, AgentDefinitions(here.log), none, conflict_pauses_s=(0, 0))
    with pytest.raises(WriteConflictError):
        await starts.record(OWNER, LABEL, new_conversation(), None)
