"""Given what has happened, when something is wished for, then these events, or this refusal."""

from collections.abc import Callable
from typing import Any

import pytest

from domain import decisions
from domain.content import ImageBlock, TextBlock, ToolUseBlock
from domain.conversation import Conversation
from domain.decisions import Events, TurnSettings
from domain.errors import (
    ConversationDeletedError,
    ConversationLockedError,
    ConversationNotFoundError,
    InvalidContentError,
    MessageNotFoundError,
    TurnNotActiveError,
    UnsupportedImageError,
    VersionMismatchError,
)
from domain.events import (
    ConversationDeleted,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from tests.support.builders import BEGINNING, MODEL, Story, answer, draft, folded, origin, some_id, usage

CHUNKS: dict[str, Any] = {
    "first_seq": 2,
    "block_index": 0,
    "block_type": "text",
    "first_delta_index": 0,
    "chunks": ("a", "b"),
}
SETTINGS = TurnSettings(MODEL)


def versions(events: Events) -> list[int]:
    return [event.originator_version for event in events]


def types(events: Events) -> list[type]:
    return [type(event) for event in events]


def idle() -> Story:
    return Story(title="Old")


def locked() -> Story:
    story = idle()
    story.ask()
    return story


def deleted() -> Story:
    story = idle()
    story.delete()
    return story


def test_a_conversation_starts_with_its_owner_title_and_metadata() -> None:
    conversation_id = some_id()
    (event,) = decisions.start_conversation(
        conversation_id, origin(), agent_id="support", title="Hello", metadata={"plan": "pro"}
    )
    assert event == ConversationStarted(
        originator_id=conversation_id,
        originator_version=1,
        timestamp=BEGINNING,
        actor="alice",
        request_id="req-1",
        owner_id="alice",
        agent_id="support",
        title="Hello",
        metadata={"plan": "pro"},
    )


def test_first_messages_follow_the_start_and_an_answer_among_them_replies_to_the_question_before_it() -> None:
    question, reply = draft("Why?"), draft("Because.", "assistant")
    first = draft("Be brief.", "system")
    events = decisions.start_conversation(some_id(), origin(), messages=[first, question, reply])
    assert versions(events) == [1, 2, 3, 4]
    replies = [event.in_reply_to for event in events if isinstance(event, MessageAdded)]
    assert replies == [None, None, question.id]


def test_a_start_with_a_message_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        decisions.start_conversation(some_id(), origin(), messages=[draft(), draft(content=())])


def test_an_update_keeps_what_it_does_not_name() -> None:
    state = folded(Story(title="Old", metadata={"a": 1}).events)
    (event,) = decisions.update_conversation(state, origin(), {"title": "New"})
    assert isinstance(event, ConversationUpdated)
    assert (event.originator_version, event.title, event.metadata) == (2, "New", {"a": 1})


def test_an_update_can_remove_the_title() -> None:
    (event,) = decisions.update_conversation(idle().state, origin(), {"title": None})
    assert isinstance(event, ConversationUpdated)
    assert event.title is None


def test_an_update_that_changes_nothing_is_no_event() -> None:
    assert decisions.update_conversation(idle().state, origin(), {"title": "Old"}) == []


def test_an_update_is_possible_while_a_turn_runs() -> None:
    assert types(decisions.update_conversation(locked().state, origin(), {"title": "New"})) == [ConversationUpdated]


def test_the_expected_version_is_that_of_the_last_event_a_reader_can_see() -> None:
    story = locked()
    story.stream("a")
    assert story.state.version == 4
    assert decisions.update_conversation(story.state, origin(), {"title": "New"}, expected_version=3)
    with pytest.raises(VersionMismatchError):
        decisions.update_conversation(story.state, origin(), {"title": "New"}, expected_version=4)
    with pytest.raises(VersionMismatchError):
        decisions.delete_conversation(story.state, origin(), expected_version=2)


def test_a_conversation_is_deleted() -> None:
    events = decisions.delete_conversation(idle().state, origin(), expected_version=1)
    assert types(events) == [ConversationDeleted]
    assert versions(events) == [2]


def test_deleting_a_conversation_cancels_its_running_turn_first() -> None:
    story = locked()
    events = decisions.delete_conversation(story.state, origin())
    assert types(events) == [TurnCancelled, ConversationDeleted]
    assert versions(events) == [4, 5]
    assert isinstance(events[0], TurnCancelled) and events[0].turn_id == story.turn_id


def test_a_message_is_added_as_its_author_said_it() -> None:
    said = draft("Hello you")
    (event,) = decisions.add_message(idle().state, origin(), said)
    assert isinstance(event, MessageAdded)
    assert (event.message_id, event.content, event.tokens, event.encoding) == (said.id, said.content, 2, "words")
    assert (event.author_id, event.role, event.status, event.turn_id) == ("alice", "user", "completed", None)


def test_an_assistants_message_has_no_author_and_answers_the_last_user_message() -> None:
    story = idle()
    story.say("First")
    (question,) = story.say("Second")
    story.say("Note", "system")
    (event,) = decisions.add_message(story.state, origin(), draft("Answer", "assistant"))
    assert isinstance(event, MessageAdded) and isinstance(question, MessageAdded)
    assert (event.author_id, event.in_reply_to) == (None, question.message_id)


def test_an_assistants_message_answers_what_it_names() -> None:
    story, named = idle(), some_id()
    story.say()
    (event,) = decisions.add_message(story.state, origin(), draft(role="assistant", in_reply_to=named))
    assert isinstance(event, MessageAdded)
    assert event.in_reply_to == named


def test_a_message_without_content_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        decisions.add_message(idle().state, origin(), draft(content=()))


def test_a_message_with_a_block_its_role_may_not_use_is_refused() -> None:
    call = ToolUseBlock(id="1", name="f", input={})
    with pytest.raises(InvalidContentError):
        decisions.add_message(idle().state, origin(), draft(content=(call,)))


def test_a_message_with_a_wrong_image_is_refused() -> None:
    image = ImageBlock(media_type="image/png", data="AAAA")
    with pytest.raises(UnsupportedImageError):
        decisions.add_message(idle().state, origin(), draft(content=(image,)))


def test_a_message_that_exists_is_deleted() -> None:
    message_id = some_id()
    (event,) = decisions.delete_message(idle().state, origin(), message_id, exists=True)
    assert isinstance(event, MessageDeleted) and event.message_id == message_id


def test_a_message_that_does_not_exist_cannot_be_deleted() -> None:
    with pytest.raises(MessageNotFoundError):
        decisions.delete_message(idle().state, origin(), some_id(), exists=False)


def test_a_turn_starts_with_the_users_message_and_locks_the_conversation() -> None:
    story, said, turn_id, answer_id = idle(), draft("Why?"), some_id(), some_id()
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"})
    message, started = decisions.start_turn(story.state, origin(), said, settings, turn_id=turn_id, answer_id=answer_id)
    assert isinstance(message, MessageAdded) and isinstance(started, TurnStarted)
    assert (message.turn_id, message.message_id, message.originator_version) == (turn_id, said.id, 2)
    assert (started.turn_id, started.user_message_id, started.message_id) == (turn_id, said.id, answer_id)
    assert (started.model, started.max_context_tokens, started.temperature) == ("gpt-4o", 4000, 0.5)
    assert (started.max_output_tokens, started.metadata, started.originator_version) == (100, {"k": "v"}, 3)


def test_a_turn_with_bad_content_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        decisions.start_turn(
            idle().state, origin(), draft(content=()), SETTINGS, turn_id=some_id(), answer_id=some_id()
        )


def test_a_delta_keeps_the_chunks_of_the_active_turn() -> None:
    story = locked()
    (event,) = decisions.record_delta(story.state, origin(), story.turn_id, **CHUNKS)
    assert isinstance(event, StreamDelta)
    assert (event.turn_id, event.chunks, event.originator_version) == (story.turn_id, ("a", "b"), 4)


def test_a_completed_turn_holds_the_whole_answer_under_the_id_fixed_at_its_start() -> None:
    story = locked()
    turn = story.state.turn
    assert turn is not None
    used = usage()
    said = answer("Because.", usage=used, finish_reason="length", time_to_first_token_ms=3.0, duration_ms=9.0)
    message, ended = decisions.complete_turn(story.state, origin(), turn.id, said)
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnCompleted)
    assert (message.message_id, message.in_reply_to, message.turn_id) == (
        turn.message_id,
        turn.user_message_id,
        turn.id,
    )
    assert (message.role, message.author_id, message.model, message.status) == ("assistant", None, MODEL, "completed")
    assert (message.usage, message.finish_reason) == (used, "length")
    assert (ended.usage, ended.finish_reason, ended.originator_version) == (used, "length", 5)
    assert (ended.time_to_first_token_ms, ended.duration_ms) == (3.0, 9.0)


def test_a_turn_in_which_nothing_was_said_completes_without_a_message() -> None:
    story = locked()
    events = decisions.complete_turn(story.state, origin(), story.turn_id, answer(""))
    assert types(events) == [TurnCompleted]
    assert isinstance(events[0], TurnCompleted) and events[0].finish_reason == "stop"


def test_a_failed_turn_keeps_what_was_said_as_an_interrupted_message() -> None:
    story = locked()
    message, ended = decisions.fail_turn(
        story.state, origin(), story.turn_id, answer("Be"), reason="model_timeout", detail="Too slow."
    )
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnFailed)
    assert (message.status, message.originator_version) == ("interrupted", 4)
    assert (ended.reason, ended.detail, ended.originator_version) == ("model_timeout", "Too slow.", 5)


def test_a_turn_that_failed_before_a_word_leaves_no_message() -> None:
    story = locked()
    events = decisions.fail_turn(story.state, origin(), story.turn_id, answer(""), reason="model_auth", detail="No.")
    assert types(events) == [TurnFailed]


def test_a_cancelled_turn_keeps_what_was_said_as_an_interrupted_message() -> None:
    story = locked()
    message, ended = decisions.cancel_turn(story.state, origin(), story.turn_id, answer("Be"))
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnCancelled)
    assert (message.status, versions([message, ended])) == ("interrupted", [4, 5])


def test_a_turn_cancelled_before_a_word_leaves_no_message() -> None:
    story = locked()
    assert types(decisions.cancel_turn(story.state, origin(), story.turn_id, answer(""))) == [TurnCancelled]


OF_OWNERS: dict[str, Callable[[Conversation, str], Events]] = {
    "update": lambda state, actor: decisions.update_conversation(state, origin(actor), {"title": "New"}),
    "delete": lambda state, actor: decisions.delete_conversation(state, origin(actor)),
    "add_message": lambda state, actor: decisions.add_message(state, origin(actor), draft()),
    "delete_message": lambda state, actor: decisions.delete_message(state, origin(actor), some_id(), exists=True),
    "start_turn": lambda state, actor: decisions.start_turn(
        state, origin(actor), draft(), SETTINGS, turn_id=some_id(), answer_id=some_id()
    ),
    "cancel_turn": lambda state, actor: decisions.cancel_turn(state, origin(actor), some_id(), answer()),
}


@pytest.mark.parametrize("decide", OF_OWNERS.values(), ids=OF_OWNERS)
def test_another_owners_conversation_is_not_found(decide: Callable[[Conversation, str], Events]) -> None:
    with pytest.raises(ConversationNotFoundError):
        decide(idle().state, "mallory")
    with pytest.raises(ConversationNotFoundError):
        decide(deleted().state, "mallory")


@pytest.mark.parametrize("decide", OF_OWNERS.values(), ids=OF_OWNERS)
def test_a_deleted_conversation_refuses_its_owner(decide: Callable[[Conversation, str], Events]) -> None:
    with pytest.raises(ConversationDeletedError):
        decide(deleted().state, "alice")


@pytest.mark.parametrize("name", ["add_message", "delete_message", "start_turn"])
def test_a_locked_conversation_refuses_and_names_the_turn_that_locks_it(name: str) -> None:
    story = locked()
    with pytest.raises(ConversationLockedError) as refusal:
        OF_OWNERS[name](story.state, "alice")
    assert refusal.value.active_turn_id == story.turn_id


OF_TURNS: dict[str, Callable[[Conversation, Any], Events]] = {
    "record_delta": lambda state, turn_id: decisions.record_delta(state, origin(), turn_id, **CHUNKS),
    "complete_turn": lambda state, turn_id: decisions.complete_turn(state, origin(), turn_id, answer()),
    "fail_turn": lambda state, turn_id: decisions.fail_turn(
        state, origin(), turn_id, answer(), reason="model_error", detail="No."
    ),
    "cancel_turn": lambda state, turn_id: decisions.cancel_turn(state, origin(), turn_id, answer()),
}


@pytest.mark.parametrize("decide", OF_TURNS.values(), ids=OF_TURNS)
def test_an_ended_turn_takes_nothing_more(decide: Callable[[Conversation, Any], Events]) -> None:
    story = locked()
    ended = story.turn_id
    story.complete()
    with pytest.raises(TurnNotActiveError):
        decide(story.state, ended)


@pytest.mark.parametrize("decide", OF_TURNS.values(), ids=OF_TURNS)
def test_a_turn_other_than_the_active_one_takes_nothing(decide: Callable[[Conversation, Any], Events]) -> None:
    with pytest.raises(TurnNotActiveError):
        decide(locked().state, some_id())


def test_every_event_of_a_decision_carries_who_asked_when_and_in_which_request() -> None:
    story = locked()
    asked = origin(request_id="req-9")
    for event in decisions.complete_turn(story.state, asked, story.turn_id, answer()):
        assert (event.actor, event.timestamp, event.request_id) == ("alice", BEGINNING, "req-9")
        assert event.originator_id == story.id


def test_content_is_checked_before_anything_is_recorded_but_after_the_lock() -> None:
    with pytest.raises(ConversationLockedError):
        decisions.add_message(locked().state, origin(), draft(content=(TextBlock(text=""),)))
