"""Decisions on conversations and messages: given events, a command, new events."""

import pytest

from domain.content import ImageBlock, Role, TextBlock, ToolResultBlock, ToolUseBlock
from domain.decisions import conversations
from domain.decisions.conversations import MessagePlace
from domain.errors import (
    ConversationLockedError,
    InvalidContentError,
    MessageNotFoundError,
    UnsupportedImageError,
    VersionMismatchError,
)
from domain.events import (
    ConversationDeleted,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    TurnCancelled,
)
from domain.tools import UNANSWERED_ENCODING, UNANSWERED_TOKENS
from tests.support.histories.builders import BEGINNING, Story, draft, folded, origin, some_id
from tests.support.histories.stories import idle, locked, types, versions


def test_a_conversation_starts_with_its_owner_title_and_metadata() -> None:
    conversation_id = some_id()
    (event,) = conversations.start_conversation(
        conversation_id, origin(), agent_id="support", title="Hello", metadata={"plan": "pro"}
    )
    assert event == ConversationStarted(
        originator_id=conversation_id,
        originator_version=1,
        timestamp=BEGINNING,
        actor="user:alice",
        request_id="req-1",
        owner_id="alice",
        agent_id="support",
        title="Hello",
        metadata={"plan": "pro"},
    )


def test_first_messages_follow_the_start_and_an_answer_replies_to_the_question_before_it() -> None:
    question, reply = draft("Why?"), draft("Because.", "assistant")
    first = draft("Be brief.", "system")
    events = conversations.start_conversation(some_id(), origin(), messages=[first, question, reply])
    assert versions(events) == [1, 2, 3, 4]
    replies = [event.in_reply_to for event in events if isinstance(event, MessageAdded)]
    assert replies == [None, None, question.id]


def test_a_start_with_an_invalid_message_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        conversations.start_conversation(some_id(), origin(), messages=[draft(), draft(content=())])


def test_an_update_keeps_the_fields_that_it_does_not_name() -> None:
    state = folded(Story(title="Old", metadata={"a": 1}).events)
    (event,) = conversations.update_conversation(state, origin(), {"title": "New"})
    assert isinstance(event, ConversationUpdated)
    assert (event.originator_version, event.title, event.metadata) == (2, "New", {"a": 1})


def test_an_update_can_remove_the_title() -> None:
    (event,) = conversations.update_conversation(idle().state, origin(), {"title": None})
    assert isinstance(event, ConversationUpdated)
    assert event.title is None


def test_an_update_that_changes_nothing_records_no_event() -> None:
    assert conversations.update_conversation(idle().state, origin(), {"title": "Old"}) == []


def test_an_update_is_possible_while_a_turn_runs() -> None:
    assert types(conversations.update_conversation(locked().state, origin(), {"title": "New"})) == [ConversationUpdated]


def test_the_expected_version_is_compared_with_the_visible_version() -> None:
    story = locked()
    story.stream("a")
    assert story.state.version == 4
    assert conversations.update_conversation(story.state, origin(), {"title": "New"}, expected_versions={2, 3})
    with pytest.raises(VersionMismatchError):
        conversations.update_conversation(story.state, origin(), {"title": "New"}, expected_versions={2, 4})
    with pytest.raises(VersionMismatchError):
        conversations.delete_conversation(story.state, origin(), expected_versions={2})


def test_a_conversation_is_deleted() -> None:
    events = conversations.delete_conversation(idle().state, origin(), expected_versions={1})
    assert types(events) == [ConversationDeleted]
    assert versions(events) == [2]


def test_deleting_a_conversation_cancels_its_running_turn_first() -> None:
    story = locked()
    events = conversations.delete_conversation(story.state, origin())
    assert types(events) == [TurnCancelled, ConversationDeleted]
    assert versions(events) == [4, 5]
    assert isinstance(events[0], TurnCancelled) and events[0].turn_id == story.turn_id


def test_deleting_a_conversation_cancels_the_active_turn_and_then_the_queued_ones() -> None:
    story = locked()
    story.queue("Second")
    story.queue("First", ahead=True)
    (first, second), active = story.state.queue, story.turn_id
    *cancelled, last = story.delete()
    assert [event.turn_id for event in cancelled if isinstance(event, TurnCancelled)] == [active, first.id, second.id]
    assert isinstance(last, ConversationDeleted)
    assert (versions([*cancelled, last]), story.state.turn, story.state.queue) == ([6, 7, 8, 9], None, ())


def test_a_message_is_added_with_its_content_and_author() -> None:
    said = draft("Hello you")
    (event,) = conversations.add_message(idle().state, origin(), said, some_id())
    assert isinstance(event, MessageAdded)
    assert (event.message_id, event.content, event.tokens, event.encoding) == (said.id, said.content, 2, "words")
    assert (event.author_id, event.role, event.status, event.turn_id) == ("user:alice", "user", "completed", None)


def test_an_assistant_message_has_no_author_and_replies_to_the_last_user_message() -> None:
    story = idle()
    story.say("First")
    (question,) = story.say("Second")
    story.say("Note", "system")
    (event,) = conversations.add_message(story.state, origin(), draft("Answer", "assistant"), some_id())
    assert isinstance(event, MessageAdded) and isinstance(question, MessageAdded)
    assert (event.author_id, event.in_reply_to) == (None, question.message_id)


def test_an_assistant_message_replies_to_the_message_that_it_names() -> None:
    story, named = idle(), some_id()
    story.say()
    (event,) = conversations.add_message(story.state, origin(), draft(role="assistant", in_reply_to=named), some_id())
    assert isinstance(event, MessageAdded)
    assert event.in_reply_to == named


def test_a_message_without_content_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        conversations.add_message(idle().state, origin(), draft(content=()), some_id())


def test_a_message_with_a_block_that_its_role_may_not_use_is_refused() -> None:
    call = ToolUseBlock(id="1", name="f", input={})
    with pytest.raises(InvalidContentError):
        conversations.add_message(idle().state, origin(), draft(content=(call,)), some_id())


def test_a_message_with_an_invalid_image_is_refused() -> None:
    image = ImageBlock(media_type="image/png", data="AAAA")
    with pytest.raises(UnsupportedImageError):
        conversations.add_message(idle().state, origin(), draft(content=(image,)), some_id())


def test_an_existing_message_is_deleted() -> None:
    message_id = some_id()
    (event,) = conversations.delete_message(idle().state, origin(), message_id, MessagePlace(2))
    assert isinstance(event, MessageDeleted) and event.message_id == message_id


def test_a_message_that_does_not_exist_cannot_be_deleted() -> None:
    with pytest.raises(MessageNotFoundError):
        conversations.delete_message(idle().state, origin(), some_id(), None)


def test_the_deletion_of_a_message_records_whether_it_was_superseded() -> None:
    for superseded in (False, True):
        (event,) = conversations.delete_message(idle().state, origin(), some_id(), MessagePlace(2, superseded))
        assert isinstance(event, MessageDeleted) and event.superseded is superseded


def calling(*calls: str) -> Story:
    """Return a conversation whose client recorded an answer with tool calls."""
    story = idle()
    story.say("What is it?")
    story.say(role="assistant", content=tuple(ToolUseBlock(id=call, name="f", input={}) for call in calls))
    return story


def result(call: str) -> ToolResultBlock:
    return ToolResultBlock(tool_use_id=call, content="42")


def test_open_calls_of_a_client_get_error_results_before_the_next_user_message() -> None:
    story = calling("a", "b")
    closing, said = story.say("Never mind.")
    assert isinstance(closing, MessageAdded) and isinstance(said, MessageAdded)
    results = [block for block in closing.content if isinstance(block, ToolResultBlock)]
    assert [(block.tool_use_id, block.is_error) for block in results] == [("a", True), ("b", True)]
    assert (closing.role, closing.turn_id, closing.author_id) == ("tool", None, "user:alice")
    assert (closing.tokens, closing.encoding) == (2 * UNANSWERED_TOKENS, UNANSWERED_ENCODING)
    assert (said.role, versions([closing, said]), story.state.open_calls) == ("user", [4, 5], ())


def test_only_calls_without_a_result_get_an_error_result() -> None:
    story = calling("a", "b")
    story.say(role="tool", content=(result("a"),))
    assert story.state.open_calls == ("b",)
    closing, _ = story.say("Never mind.")
    assert isinstance(closing, MessageAdded)
    assert [block.tool_use_id for block in closing.content if isinstance(block, ToolResultBlock)] == ["b"]


@pytest.mark.parametrize("role", ["system", "tool", "assistant"])
def test_a_message_of_another_role_leaves_calls_open(role: Role) -> None:
    story = calling("a", "b")
    said = story.say(role="tool", content=(result("x"),)) if role == "tool" else story.say("Be brief.", role)
    assert len(said) == 1
    assert story.state.open_calls == ("a", "b")


def test_calls_in_several_messages_are_open_until_each_has_a_result() -> None:
    story = calling("a", "b")
    story.say(role="assistant", content=(ToolUseBlock(id="c", name="f", input={}),))
    story.say(role="tool", content=(result("a"),))
    assert story.state.open_calls == ("b", "c")
    closing, _ = story.say("Never mind.")
    assert isinstance(closing, MessageAdded)
    assert [block.tool_use_id for block in closing.content if isinstance(block, ToolResultBlock)] == ["b", "c"]


def test_calls_with_results_get_no_error_results() -> None:
    story = calling("a", "b")
    story.say(role="tool", content=(result("b"), result("a")))
    assert types(story.say("Thanks.")) == [MessageAdded]


def test_closing_calls_records_nothing_if_no_call_is_open() -> None:
    assert conversations.close_calls(idle().state, origin(), some_id()) == []


def test_the_lock_is_checked_before_the_content() -> None:
    with pytest.raises(ConversationLockedError):
        conversations.add_message(locked().state, origin(), draft(content=(TextBlock(text=""),)), some_id())
