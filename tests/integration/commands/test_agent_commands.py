"""Commands on agents: conflicts, idempotency keys, and nothing remembered."""

import asyncio
from typing import Any, cast

import pytest

from commands.agent_commands import AgentCommands
from commands.agent_definitions import AgentDefinitions
from domain.agent import AgentDefined, AgentSettings, agent_aggregate_id
from domain.decisions.turn_starts import TurnSettings
from domain.errors import AgentNotFoundError, WriteConflictError
from eventlog.errors import IdempotencyKeyTakenError, VersionTakenError
from eventlog.writer import GroupCommitWriter, Idempotency
from tests.support.store import ALICE, Store, end_sessions, rows

BRIEF, LONG = AgentSettings(system_prompt="Be brief."), AgentSettings(system_prompt="Explain.")


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


class Losing(GroupCommitWriter):
    """A writer that always loses the race for a version."""

    def append(self, *_: Any, **__: Any) -> asyncio.Future[int]:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_exception(VersionTakenError("The version was recorded meanwhile."))
        return done


async def test_a_caller_that_loses_every_race_gets_a_conflict(here: Store) -> None:
    losing = AgentCommands(here.log, Losing(here.database), conflict_pauses_s=(0, 0))
    with pytest.raises(WriteConflictError, match="Agent"):
        await losing.define(ALICE, "support", BRIEF)


async def test_an_idempotency_key_is_recorded_once(agents: AgentCommands) -> None:
    keyed = ALICE._replace(idempotency=Idempotency("alice", "key", b"\x01" * 32))
    await agents.define(keyed, "support", BRIEF)
    with pytest.raises(IdempotencyKeyTakenError):
        await agents.define(keyed, "support", LONG)


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
    assert first.agent.definition and second.agent.definition

    async def prompt(as_of: Any) -> str | None:
        agent = await definitions.read("alice", "support", as_of)
        return agent.definition.system_prompt if agent.definition else None

    for as_of in (1, first.agent.definition.timestamp):
        assert await prompt(as_of) == "Be brief."
    for as_of in (2, second.agent.definition.timestamp):
        assert await prompt(as_of) == "Explain."
    for as_of in (None, 3, 0):
        with pytest.raises(AgentNotFoundError):
            await prompt(as_of)
