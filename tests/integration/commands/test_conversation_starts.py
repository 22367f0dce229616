"""The starts of conversations with an agent that limits them, in two processes."""

import asyncio
from typing import Any

import pytest

from commands.agent_definitions import AgentDefinitions
from commands.conversation_starts import ConversationStarts, CountLive
from commands.executor import CommandExecutor, Committed
from domain.agent import AgentDefined
from domain.decisions.conversations import Events, start_conversation
from domain.errors import ConversationLimitReachedError, WriteConflictError
from domain.events import ConversationStarted
from eventlog.errors import StoreUnavailableError
from tests.integration.commands.test_agent_commands import Losing
from tests.support.histories.agents import LABEL, AgentStory
from tests.support.histories.builders import OWNER, origin, some_id
from tests.support.store import Store, rows, value

NUMBERS = "SELECT (data ->> 'agent_number')::integer FROM events WHERE type = 'ConversationStarted' ORDER BY position"


def definition(limit: int | None) -> AgentDefined:
    story = AgentStory()
    story.define(max_conversations=limit)
    return story.definition


def new_conversation(owner: str = OWNER) -> Events:
    return start_conversation(some_id(), origin(owner), agent_id=LABEL)


def starts_of(store: Store, count_live: CountLive) -> ConversationStarts:
    return ConversationStarts(store.conversations, AgentDefinitions(store.log), count_live)


async def test_of_two_starts_that_were_decided_on_one_count_only_one_is_recorded(
    database_url: str, here: Store, there: Store
) -> None:
    both_have_counted, have_counted = asyncio.Barrier(2), set[int]()

    def counting(process: int) -> CountLive:
        async def count(position: int, owner_id: str, label: str, at_most: int) -> int:
            if process in have_counted:
                return value(database_url, "SELECT count(*)::integer FROM events WHERE type = 'ConversationStarted'")
            have_counted.add(process)
            await both_have_counted.wait()
            return 0

        return count

    processes = [starts_of(store, counting(number)) for number, store in enumerate((here, there))]
    agent = definition(1)
    found = await asyncio.gather(
        *(each.record(OWNER, agent, new_conversation(), None) for each in processes), return_exceptions=True
    )
    assert {type(each) for each in found} == {Committed, ConversationLimitReachedError}
    assert rows(database_url, NUMBERS) == [(1,)]


async def test_many_starts_at_once_take_one_number_each(database_url: str, here: Store, there: Store) -> None:
    async def none(*_: Any) -> int:
        return 0

    processes, agent = [starts_of(store, none) for store in (here, there)], definition(5)
    await asyncio.gather(
        *(processes[number % 2].record(OWNER, agent, new_conversation(), None) for number in range(20))
    )
    assert [row[0] for row in rows(database_url, NUMBERS)] == list(range(1, 21))


async def test_each_owner_has_numbers_of_its_own(database_url: str, here: Store) -> None:
    async def none(*_: Any) -> int:
        return 0

    starts, agent = starts_of(here, none), definition(5)
    for owner in ("alice", "bob", "alice"):
        await starts.record(owner, agent, new_conversation(owner), None)
    assert [row[0] for row in rows(database_url, NUMBERS)] == [1, 1, 2]


async def test_a_start_without_a_limit_counts_nothing_and_has_no_number(here: Store) -> None:
    async def never(*_: Any) -> int:
        raise AssertionError

    starts = starts_of(here, never)
    for agent in (None, definition(None)):
        started = (await starts.record(OWNER, agent, new_conversation(), None)).events[0]
        assert isinstance(started, ConversationStarted)
        assert started.agent_number is None


async def test_a_start_that_cannot_be_counted_is_refused(here: Store) -> None:
    starts = ConversationStarts(here.conversations, AgentDefinitions(here.log))
    with pytest.raises(StoreUnavailableError):
        await starts.record(OWNER, definition(1), new_conversation(), None)
    assert await here.log.head() == 0


async def test_a_start_that_loses_every_race_is_a_conflict(here: Store) -> None:
    async def none(*_: Any) -> int:
        return 0

    losing = CommandExecutor(here.log, Losing(here.database))
    starts = ConversationStarts(losing, AgentDefinitions(here.log), none, conflict_pauses_s=(0, 0))
    with pytest.raises(WriteConflictError):
        await starts.record(OWNER, definition(1), new_conversation(), None)
