"""Conversations of other owners, deleted and locked ones refuse commands."""

from collections.abc import Callable
from uuid import UUID

import pytest

from domain.conversation import Conversation
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.conversations import Events, MessagePlace
from domain.decisions.turn_starts import Question, Superseded, TurnSettings
from domain.errors import ConversationDeletedError, ConversationLockedError, ConversationNotFoundError
from tests.support.histories.builders import MODEL, answer, draft, origin, some_id, turn_ids
from tests.support.histories.stories import deleted, idle, locked, results

SETTINGS = TurnSettings(MODEL)
QUESTION, SUPERSEDED = Question(UUID(int=1), 2), Superseded(3, 1)
OWNER_COMMANDS: dict[str, Callable[[Conversation, str], Events]] = {
    "update": lambda state, owner: conversations.update_conversation(state, origin(owner), {"title": "New"}),
    "delete": lambda state, owner: conversations.delete_conversation(state, origin(owner)),
    "add_message": lambda state, owner: conversations.add_message(state, origin(owner), draft(), some_id()),
    "delete_message": lambda state, owner: conversations.delete_message(
        state, origin(owner), some_id(), MessagePlace(2)
    ),
    "start_turn": lambda state, owner: turn_starts.start_turn(state, origin(owner), draft(), SETTINGS, turn_ids()),
    "answer_again": lambda state, owner: turn_starts.answer_again(
        state, origin(owner), QUESTION, SETTINGS, turn_ids(), SUPERSEDED
    ),
    "queue_turn": lambda state, owner: turn_starts.queue_turn(state, origin(owner), draft(), SETTINGS, turn_ids()),
    "resume_turn": lambda state, owner: running_turns.resume_turn(
        state, origin(owner), some_id(), results("call_a_0"), some_id()
    ),
    "cancel_turn": lambda state, owner: running_turns.cancel_turn(state, origin(owner), some_id(), answer(), some_id()),
}


@pytest.mark.parametrize("decide", OWNER_COMMANDS.values(), ids=OWNER_COMMANDS)
def test_a_conversation_of_another_owner_is_not_found(decide: Callable[[Conversation, str], Events]) -> None:
    with pytest.raises(ConversationNotFoundError):
        decide(idle().state, "mallory")
    with pytest.raises(ConversationNotFoundError):
        decide(deleted().state, "mallory")


@pytest.mark.parametrize("actor", ["user:alice", "service:billing", "alice"])
def test_an_actor_acts_for_the_owner_that_it_names_and_for_no_other(actor: str) -> None:
    state = idle().state
    (event,) = conversations.update_conversation(state, origin()._replace(actor=actor), {"title": "New"})
    assert event.actor == actor
    with pytest.raises(ConversationNotFoundError):
        conversations.update_conversation(state, origin("mallory")._replace(actor=actor), {"title": "New"})


@pytest.mark.parametrize("decide", OWNER_COMMANDS.values(), ids=OWNER_COMMANDS)
def test_a_deleted_conversation_refuses_commands_of_its_owner(decide: Callable[[Conversation, str], Events]) -> None:
    with pytest.raises(ConversationDeletedError):
        decide(deleted().state, "alice")


@pytest.mark.parametrize("name", ["add_message", "delete_message", "start_turn", "answer_again"])
def test_a_locked_conversation_refuses_commands_and_names_the_turn_that_locks_it(name: str) -> None:
    story = locked()
    with pytest.raises(ConversationLockedError) as refusal:
        OWNER_COMMANDS[name](story.state, "alice")
    assert refusal.value.active_turn_id == story.turn_id
