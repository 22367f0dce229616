"""Agents: their identity, their decisions, and the settings that they give."""

from hashlib import sha256

import pytest

from domain.agent import AgentDefined, AgentDeleted, AgentSettings, agent_aggregate_id, agent_settings_of
from domain.decisions.agents import define_agent, delete_agent, resolve_settings
from domain.decisions.turn_starts import TurnSettings
from domain.errors import AgentNotFoundError, VersionMismatchError
from tests.support.histories.agents import AgentStory, fold_agent
from tests.support.histories.builders import TOOL, origin

EVERYTHING = AgentSettings("Be brief.", "gpt-4o", 4000, 0.5, (TOOL,), 3, 30, 60.0)
OPEN = TurnSettings("server-model", left_open=("model", "tools"))


def definition(**settings: object) -> AgentDefined:
    story = AgentStory()
    story.define(**settings)
    return story.definition


def test_an_agent_is_identified_by_its_owner_and_its_label() -> None:
    ids = [agent_aggregate_id(owner, label) for owner in ("alice", "bob", "shared", None) for label in ("a", "b")]
    assert len(set(ids)) == len(ids)
    # Stored events have these ids, so they never change.
    assert str(agent_aggregate_id("alice", "a")) == "bb1b2d27-4a1a-578e-8798-dcf9cff9fa12"
    assert str(agent_aggregate_id(None, "a")) == "03425835-707e-5137-8bf6-8088f7f99922"


def test_a_definition_holds_all_settings() -> None:
    (defined,) = define_agent(None, origin(), "alice", "support", EVERYTHING)
    assert isinstance(defined, AgentDefined)
    assert (defined.owner_id, defined.agent_id, defined.originator_version) == ("alice", "support", 1)
    assert defined.originator_id == agent_aggregate_id("alice", "support")
    assert agent_settings_of(defined) == EVERYTHING


def test_a_shared_agent_has_no_owner_and_its_definition_has_an_actor() -> None:
    (defined,) = define_agent(None, origin("ops"), None, "support", AgentSettings())
    assert isinstance(defined, AgentDefined)
    assert (defined.owner_id, defined.actor) == (None, "user:ops")
    assert defined.originator_id == agent_aggregate_id(None, "support")


def test_a_definition_replaces_all_settings_and_keeps_the_time_of_creation() -> None:
    story = AgentStory()
    (first,) = story.define(model="gpt-4o", temperature=0.5)
    (second,) = story.define(system_prompt="Be brief.")
    assert story.state is not None
    assert agent_settings_of(story.definition) == AgentSettings(system_prompt="Be brief.")
    assert (story.state.version, story.state.created_at) == (2, first.timestamp)
    assert first.timestamp < second.timestamp == story.definition.timestamp


def test_the_same_settings_again_record_nothing() -> None:
    story = AgentStory()
    story.define(**EVERYTHING._asdict())
    assert story.define(**EVERYTHING._asdict()) == []
    assert len(story.define(**EVERYTHING._replace(temperature=0.6)._asdict())) == 1


def test_settings_that_python_takes_for_equal_are_different_json() -> None:
    story = AgentStory()
    for value in (True, 1):
        tool = TOOL.model_copy(update={"input_schema": {"n": value}})
        assert len(story.define(tools=(tool,))) == 1


def test_a_deleted_agent_can_be_defined_again_and_is_a_new_one() -> None:
    story = AgentStory()
    story.define(**EVERYTHING._asdict())
    (deleted,) = story.delete()
    assert isinstance(deleted, AgentDeleted)
    assert story.state is not None and story.state.definition is None
    (again,) = story.define(**EVERYTHING._asdict())
    assert (again.originator_version, story.state.created_at) == (3, again.timestamp)
    assert fold_agent(story.events) == story.state


def test_an_agent_is_changed_at_an_expected_version_only() -> None:
    story = AgentStory()
    story.define()
    story.define(model="gpt-4o")
    arguments = story.state, origin(), "alice", story.label, AgentSettings()
    for expected in (set[int](), {1}, {3}):
        with pytest.raises(VersionMismatchError, match="The agent is at version 2"):
            define_agent(*arguments, expected)
        with pytest.raises(VersionMismatchError, match="The agent is at version 2"):
            delete_agent(story.state, origin(), story.label, expected)
    assert len(define_agent(*arguments, {1, 2})) == 1
    assert len(delete_agent(story.state, origin(), story.label, {2})) == 1


def test_an_agent_that_does_not_exist_has_no_version() -> None:
    deleted = AgentStory()
    deleted.define()
    deleted.delete()
    for state in (None, deleted.state):
        for expected in ({1}, {2}, range(1, 2**31)):
            with pytest.raises(VersionMismatchError, match="The agent does not exist"):
                define_agent(state, origin(), "alice", "support", AgentSettings(), expected)
            with pytest.raises(AgentNotFoundError):
                delete_agent(state, origin(), "support", expected)


def test_an_agent_that_does_not_exist_cannot_be_deleted() -> None:
    story = AgentStory()
    with pytest.raises(AgentNotFoundError):
        story.delete()
    story.define()
    story.delete()
    with pytest.raises(AgentNotFoundError):
        story.delete()
    assert fold_agent([]) is None


def test_without_a_definition_a_label_changes_nothing() -> None:
    assert resolve_settings(OPEN, None) == OPEN


def test_what_a_request_leaves_open_comes_from_the_agent() -> None:
    agent = definition(**EVERYTHING._asdict())
    resolved = resolve_settings(OPEN, agent)
    assert (resolved.model, resolved.max_context_tokens, resolved.temperature) == ("gpt-4o", 4000, 0.5)
    assert (resolved.tools, resolved.left_open) == ((TOOL,), ())


def test_what_a_request_gives_wins_over_the_agent() -> None:
    agent = definition(**EVERYTHING._asdict())
    given = TurnSettings("my-model", 100, 0.0, 50, {"k": 1}, tools=())
    assert resolve_settings(given, agent)._replace(agent=None) == given


def test_what_the_agent_leaves_open_too_comes_from_the_server() -> None:
    resolved = resolve_settings(OPEN, definition())
    assert resolved._replace(agent=None) == OPEN._replace(left_open=())
    assert resolved.agent is not None


def test_a_turn_records_which_definition_it_uses_and_the_hash_of_the_prompt() -> None:
    story = AgentStory()
    story.define()
    assert (agent := resolve_settings(OPEN, story.definition).agent) is not None
    assert (agent.id, agent.label, agent.version, agent.system_prompt_sha256) == (
        *(story.definition.originator_id, story.label),
        *(1, None),
    )
    story.define(system_prompt="Grüße")
    assert (agent := resolve_settings(OPEN, story.definition).agent) is not None
    assert (agent.version, agent.system_prompt_sha256) == (2, sha256("Grüße".encode()).hexdigest())
