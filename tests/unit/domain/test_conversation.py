"""The state of a conversation, folded from its events or restored from a snapshot."""

import json

import pytest
from pydantic_core import from_json

from domain.conversation import Conversation, ConversationSnapshot, evolve, fold
from domain.events import CONVERSATION_EVENTS, ConversationEvent
from tests.support.histories.builders import BEGINNING, Story, folded, one_of_each


def test_a_started_conversation_is_empty_and_idle_and_visible_at_version_one() -> None:
    story = Story(agent_id="support", title="Hello", metadata={"a": 1})
    state = story.state
    assert (state.id, state.owner_id, state.agent_id, state.title) == (story.id, "alice", "support", "Hello")
    assert (state.version, state.visible_version, state.message_count, state.turn) == (1, 1, 0, None)
    assert state.created_at == state.updated_at > BEGINNING
    assert state.last_message_at is None


def test_an_update_replaces_title_and_metadata() -> None:
    story = Story(title="Old", metadata={"a": 1})
    story.rename(title="New", metadata={"b": 2})
    assert (story.state.title, story.state.metadata) == ("New", {"b": 2})


def test_the_message_count_excludes_deleted_messages() -> None:
    story = Story()
    story.say()
    story.say("Hi", "assistant")
    said_at = story.state.updated_at
    story.unsay(story.messages()[0].message_id)
    assert (story.state.message_count, story.state.last_message_at) == (1, said_at)
    assert story.state.updated_at > said_at


def test_only_a_message_of_a_user_becomes_the_last_user_message() -> None:
    story = Story()
    story.say()
    story.say("Hi", "assistant")
    story.say("Be brief", "system")
    assert story.state.last_user_message_id == story.messages()[0].message_id


def test_a_turn_is_active_from_its_start_to_its_end() -> None:
    story = Story()
    story.ask()
    turn = story.state.turn
    assert turn is not None
    assert (turn.first_version, turn.waiting, turn.model) == (3, False, "turnlog/demo")
    story.complete()
    assert story.state.turn is None


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
def test_a_new_turn_can_start_after_any_end_of_a_turn(end: str) -> None:
    story = Story()
    story.ask()
    getattr(story, end)("Well")
    story.ask()
    assert story.state.turn is not None


def test_a_delta_changes_only_the_version_and_not_the_visible_version() -> None:
    story = Story()
    story.ask()
    before = story.state
    story.stream("a", "b")
    assert story.state == before.at_version(4)
    assert (story.state.visible_version, story.state.updated_at) == (3, before.updated_at)


def test_a_deleted_conversation_has_no_active_turn() -> None:
    story = Story()
    story.ask()
    story.delete()
    assert story.state.deleted
    assert story.state.turn is None


def test_folding_no_events_returns_the_same_state() -> None:
    state = Story().state
    assert fold(state, []) is state
    assert fold(None, []) is None


def test_evolve_handles_every_type_of_event() -> None:
    assert {type(event) for event in one_of_each()} == CONVERSATION_EVENTS
    assert folded(one_of_each()).deleted


def test_a_state_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Story().state.title = "New"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture
def running() -> Conversation:
    story = Story(title="Grüße", agent_id="a", metadata={"n": 2**70, "deep": [{"x": None}]})
    story.say()
    story.ask()
    story.stream("a")
    return story.state


def test_a_snapshot_restores_the_state_that_it_was_taken_of(running: Conversation) -> None:
    assert ConversationSnapshot.take(running).restore() == running


def test_a_snapshot_restores_the_state_from_json(running: Conversation) -> None:
    stored = ConversationSnapshot.take(running).model_dump_json()
    assert ConversationSnapshot.model_validate(from_json(stored)).restore() == running
    assert json.loads(stored)["originator_version"] == running.version


def test_folding_from_a_snapshot_equals_folding_all_events() -> None:
    events = one_of_each()
    for cut in range(1, len(events)):
        snapshot: ConversationEvent = ConversationSnapshot.take(folded(events[:cut]))
        assert fold(evolve(None, snapshot), events[cut:]) == folded(events)
