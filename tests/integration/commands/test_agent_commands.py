"""Commands on agents: conflicts, and nothing remembered."""

import asyncio
from datetime import timedelta
from hashlib import sha256
from typing import Any, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from psycopg.rows import TupleRow

from commands.agent_commands import AgentCommands, CommittedAgent
from commands.agent_definitions import AgentDefinitions
from domain.agent import AgentDefined, AgentEvent, AgentSettings, agent_aggregate_id
from domain.decisions.turn_starts import TurnSettings
from domain.errors import AgentNotFoundError, VersionMismatchError, WriteConflictError
from domain.tools import ToolDefinition
from eventlog.db.database import Database, Statement
from eventlog.log import LAST_POSITION, Log
from tests.support.histories.agents import AgentStory, agent_histories, fold_agent
from tests.support.losing_writer import LosingWriter
from tests.support.store import ALICE, Store, end_sessions, opened, rows

BRIEF, LONG = AgentSettings(system_prompt="Be brief."), AgentSettings(system_prompt="Explain.")
IN_FEW_EXAMPLES = hypothesis_settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def agents(here: Store) -> AgentCommands:
    return AgentCommands(here.log, here.writer)


async def test_a_definition_is_recorded_with_its_actor_and_read_back_everywhere(
    here: Store, there: Store, agents: AgentCommands
) -> None:
    defined = await agents.define(ALICE, "support", BRIEF)
    assert (defined.created, defined.position) == (True, 1)
    replaced = await AgentCommands(there.log, there.writer).define(ALICE, "support", LONG)
    assert (replaced.created, replaced.position, replaced.agent.version) == (False, 2, 2)
    for store in (here, there):
        found = await AgentDefinitions(store.log).find("alice", "support")
        assert found is not None
        assert (found.system_prompt, found.actor, found.originator_version) == ("Explain.", "user:alice", 2)
    assert await AgentDefinitions(here.log).find("bob", "support") is None


async def test_the_same_settings_again_record_nothing(agents: AgentCommands) -> None:
    await agents.define(ALICE, "support", BRIEF)
    again = await agents.define(ALICE, "support", BRIEF)
    assert (again.created, again.position, again.agent.version) == (False, None, 1)


async def test_an_owners_agent_hides_a_shared_one_until_it_is_deleted(here: Store, agents: AgentCommands) -> None:
    definitions = AgentDefinitions(here.log)
    await agents.define(ALICE, "support", LONG, shared=True)
    await agents.define(ALICE, "support", BRIEF)

    async def prompts() -> list[str | None]:
        found = [await definitions.find(owner, "support") for owner in ("alice", "bob")]
        return [each.system_prompt if each else None for each in found]

    assert await prompts() == ["Be brief.", "Explain."]
    await agents.delete(ALICE, "support")
    assert await prompts() == ["Explain.", "Explain."]
    with pytest.raises(AgentNotFoundError):
        await agents.delete(ALICE, "support")
    await agents.delete(ALICE, "support", shared=True)
    assert await prompts() == [None, None]


async def test_definitions_of_two_processes_at_once_are_all_recorded(
    database_url: str, here: Store, there: Store
) -> None:
    processes = [AgentCommands(store.log, store.writer) for store in (here, there)]
    settings = [AgentSettings(system_prompt=f"Prompt {number}") for number in range(20)]
    defined = await asyncio.gather(
        *(processes[number % 2].define(ALICE, "support", each) for number, each in enumerate(settings))
    )
    assert sorted(each.agent.version for each in defined) == list(range(1, 21))
    assert [each.created for each in defined].count(True) == 1
    prompts = rows(database_url, "SELECT data ->> 'system_prompt' FROM events ORDER BY version")
    assert sorted(row[0] for row in prompts) == sorted(str(each.system_prompt) for each in settings)


async def test_a_caller_that_loses_every_race_gets_a_conflict(here: Store) -> None:
    losing = AgentCommands(here.log, LosingWriter(here.database), conflict_pauses_s=(0, 0))
    with pytest.raises(WriteConflictError, match="Agent"):
        await losing.define(ALICE, "support", BRIEF)


async def test_a_conversation_without_a_label_reads_no_agent(here: Store) -> None:
    settings = TurnSettings("gpt-4o", left_open=("model", "tools"))
    without_a_log = AgentDefinitions(cast(Any, None))
    assert await without_a_log.resolve("alice", None, settings) == settings
    assert await AgentDefinitions(here.log).resolve("alice", "undefined", settings) == settings


async def test_after_a_new_generation_the_state_is_read_again(
    database_url: str, here: Store, agents: AgentCommands
) -> None:
    await agents.define(ALICE, "support", BRIEF)
    end_sessions(database_url)
    replaced = await agents.define(ALICE, "support", LONG)
    assert (replaced.agent.version, replaced.created) == (2, False)
    newest = await here.log.newest_events([agent_aggregate_id("alice", "support")])
    assert [type(item.event) for item in newest] == [AgentDefined]


async def test_an_agent_is_read_as_of_a_position_and_a_time(here: Store, agents: AgentCommands) -> None:
    definitions = AgentDefinitions(here.log)
    first = await agents.define(ALICE, "support", BRIEF)
    second = await agents.define(ALICE, "support", LONG)
    await agents.delete(ALICE, "support")
    times = [each.agent.definition.timestamp for each in (first, second) if each.agent.definition]
    for as_of, prompt in ((1, "Be brief."), (times[0], "Be brief."), (2, "Explain."), (times[1], "Explain.")):
        upto = await here.log.position_of(as_of)
        agent = await definitions.read("alice", "support", upto)
        assert agent.definition == await definitions.find("alice", "support", upto)
        assert agent.definition is not None and agent.definition.system_prompt == prompt
    for as_of in (LAST_POSITION, 3, 0, times[0] - timedelta(microseconds=1)):
        upto = await here.log.position_of(as_of)
        assert await definitions.find("alice", "support", upto) is None
        with pytest.raises(AgentNotFoundError):
            await definitions.read("alice", "support", upto)


@IN_FEW_EXAMPLES
@given(events=agent_histories(most_steps=12))
def test_agents_are_read_as_of_every_position_of_any_history(database_url: str, events: list[AgentEvent]) -> None:
    async def check() -> None:
        async with opened(database_url, listening=False) as store:
            beginning = await store.log.head()
            # Every example has ids of its own, so that the log need not be emptied.
            ids = {event.originator_id: uuid4() for event in events}
            recorded = [event.model_copy(update={"originator_id": ids[event.originator_id]}) for event in events]
            await store.append(recorded)
            for count in range(len(events) + 1):
                seen = recorded[:count]
                states = [fold_agent(event for event in seen if event.originator_id == id_) for id_ in ids.values()]
                expected = {state.id: state for state in states if state is not None}
                assert await store.log.agents(list(ids.values()), beginning + count) == expected

    asyncio.run(check())


async def test_as_of_a_time_an_agent_is_as_the_last_event_of_the_log_by_then_left_it(here: Store) -> None:
    story = AgentStory(owner="alice")
    story.define(model="one")
    story.define(model="two")
    story.define(model="three")
    # The clock of the process that recorded the last event is behind.
    first, second, third = story.events
    late = third.model_copy(update={"timestamp": first.timestamp + timedelta(milliseconds=1)})
    await here.append([first, second, late])
    definitions = AgentDefinitions(here.log)
    for as_of, model in ((first.timestamp, "one"), (late.timestamp, "three"), (second.timestamp, "three")):
        agent = await definitions.read("alice", story.label, await here.log.position_of(as_of))
        assert agent.definition is not None
        assert (agent.definition.model, agent.created_at) == (model, first.timestamp)


class Counting(Database):
    """A database that counts the rows that it returns."""

    returned = 0

    async def fetch(self, statement: Statement, parameters: Any = ()) -> list[TupleRow]:
        found = await super().fetch(statement, parameters)
        self.returned += len(found)
        return found


async def test_a_long_history_of_an_agent_is_not_read(database_url: str, here: Store, agents: AgentCommands) -> None:
    for number in range(20):
        await agents.define(ALICE, "support", AgentSettings(system_prompt=f"Prompt {number}"))
    database = Counting(database_url)
    await database.open()
    try:
        read = await AgentDefinitions(Log(database)).read("alice", "support")
        replaced = await AgentCommands(Log(database), here.writer).define(ALICE, "support", BRIEF)
    finally:
        await database.close()
    assert (read.version, replaced.agent.version, replaced.agent.created_at) == (20, 21, read.created_at)
    assert database.returned == 2


async def test_a_command_at_another_version_is_refused(here: Store, there: Store, agents: AgentCommands) -> None:
    await agents.define(ALICE, "support", BRIEF)
    await AgentCommands(there.log, there.writer).define(ALICE, "support", LONG)
    for expected in ({1}, {3}):
        with pytest.raises(VersionMismatchError):
            await agents.define(ALICE, "support", BRIEF, expected)
        with pytest.raises(VersionMismatchError):
            await agents.delete(ALICE, "support", expected)
    assert (await agents.define(ALICE, "support", BRIEF, {2})).agent.version == 3
    assert (await agents.delete(ALICE, "support", {3})).agent.version == 4
    with pytest.raises(VersionMismatchError):
        await agents.define(ALICE, "support", BRIEF, {4})


async def test_of_two_replacements_of_one_version_at_once_one_is_recorded(here: Store, there: Store) -> None:
    processes = [AgentCommands(store.log, store.writer) for store in (here, there)]
    await processes[0].define(ALICE, "support", AgentSettings())
    settings = [BRIEF, LONG]
    found = await asyncio.gather(
        *(each.define(ALICE, "support", new, {1}) for each, new in zip(processes, settings, strict=True)),
        return_exceptions=True,
    )
    assert {type(each) for each in found} == {CommittedAgent, VersionMismatchError}


async def test_settings_with_large_numbers_are_the_same_again(agents: AgentCommands) -> None:
    schema = {"type": "number", "maximum": 1e300, "multipleOf": 1e16}
    settings = AgentSettings(tools=(ToolDefinition(name="add", input_schema=schema),))
    await agents.define(ALICE, "support", settings)
    assert (await agents.define(ALICE, "support", settings)).position is None


async def test_the_prompt_of_a_turn_is_found_after_its_agent_was_replaced_and_deleted(
    here: Store, agents: AgentCommands
) -> None:
    definitions = AgentDefinitions(here.log)
    await agents.define(ALICE, "support", BRIEF)
    resolved = (await definitions.resolve("alice", "support", TurnSettings("gpt-4o"))).agent
    assert resolved is not None
    await agents.define(ALICE, "support", LONG)
    await agents.delete(ALICE, "support")
    prompt = await definitions.system_prompt(resolved)
    assert prompt is not None and prompt == BRIEF.system_prompt
    assert sha256(prompt.encode()).hexdigest() == resolved.system_prompt_sha256
