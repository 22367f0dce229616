"""Another answer or an edited question supersedes the messages after it."""

import pytest

from domain.decisions import turn_starts
from domain.decisions.turn_starts import Question, Superseded, TurnSettings
from domain.errors import ConversationLockedError
from domain.events import MessageAdded, MessagesSuperseded, TurnCancelled, TurnStarted
from tests.support.histories.builders import origin, turn_ids
from tests.support.histories.stories import idle, locked, types, versions, waiting


def test_answering_a_question_again_supersedes_all_messages_after_it() -> None:
    story = locked()
    story.complete("One")
    story.ask("And?")
    story.complete("Two")
    question, ids = story.messages()[0], turn_ids()
    asked = Question(question.message_id, question.originator_version)
    superseded, started = turn_starts.answer_again(
        story.state, origin(), asked, TurnSettings("gpt-4o"), ids, Superseded(3, 3)
    )
    assert isinstance(superseded, MessagesSuperseded) and isinstance(started, TurnStarted)
    assert (superseded.from_version, superseded.count, superseded.originator_version) == (3, 3, 10)
    assert (started.user_message_id, started.user_message_version) == (question.message_id, 2)
    assert (started.turn_id, started.message_id, started.model) == (ids.turn, ids.answer, "gpt-4o")
    assert started.originator_version == 11


def test_the_message_count_excludes_superseded_messages_and_the_question_is_the_last_one() -> None:
    story = locked()
    story.complete("One")
    story.ask("And?")
    story.complete("Two")
    question = story.messages()[0]
    story.ask_again(question)
    assert (story.state.message_count, story.state.last_user_message_id) == (1, question.message_id)
    story.complete("Another")
    assert story.state.message_count == 2


def test_answering_an_unanswered_question_supersedes_nothing() -> None:
    story = idle()
    story.say()
    assert types(story.ask_again(story.messages()[0])) == [TurnStarted]


def test_an_edited_question_supersedes_the_old_one_and_all_messages_after_it() -> None:
    story = locked()
    story.complete("One")
    superseded, said, started = story.ask("Otherwise?", replacing=2)
    assert isinstance(superseded, MessagesSuperseded) and isinstance(said, MessageAdded)
    assert (superseded.from_version, superseded.count, superseded.originator_version) == (2, 2, 6)
    assert isinstance(started, TurnStarted) and started.user_message_version == said.originator_version == 7
    assert story.state.message_count == 1


def test_messages_already_superseded_or_deleted_are_not_counted_again() -> None:
    story = locked()
    story.complete("One")
    story.say("Two")
    story.unsay(story.messages()[-1].message_id)
    story.ask("Otherwise?", replacing=4)  # its answer, not the question
    story.complete("Three")
    superseded, *_ = story.ask("From the beginning?", replacing=2)
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.count, story.state.message_count) == (3, 1)


def test_open_calls_are_closed_first_and_their_results_are_superseded_too() -> None:
    story = waiting()
    events = story.ask("Otherwise?", replacing=2)
    assert types(events) == [MessageAdded, TurnCancelled, MessagesSuperseded, MessageAdded, TurnStarted]
    superseded = events[2]
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.from_version, superseded.count, versions(events)) == (2, 3, [6, 7, 8, 9, 10])
    assert (story.state.message_count, story.state.open_calls) == (1, ())


def test_a_suspended_turn_ends_before_its_question_is_answered_again() -> None:
    story = waiting()
    events = story.ask_again(story.messages()[0])
    assert types(events) == [MessageAdded, TurnCancelled, MessagesSuperseded, TurnStarted]
    assert isinstance(events[2], MessagesSuperseded) and events[2].count == 2
    assert story.state.message_count == 1


def test_a_queued_turn_supersedes_the_messages_present_at_its_start() -> None:
    story = locked()
    story.queue("Otherwise?", replacing=2)
    story.complete("One")
    superseded, said, started = story.start_next()
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.from_version, superseded.count) == (2, 2)
    assert (types([said, started]), story.state.message_count) == ([MessageAdded, TurnStarted], 1)


def test_deleting_a_superseded_message_leaves_the_message_count_unchanged() -> None:
    story = locked()
    story.complete("One")
    question, reply = story.messages()
    story.ask_again(question)
    story.complete("Another")
    story.unsay(reply.message_id, superseded=True)
    assert story.state.message_count == 2
    story.unsay(question.message_id)
    assert story.state.message_count == 1


def test_a_question_is_not_answered_again_while_a_turn_runs_or_is_queued() -> None:
    story = locked()
    with pytest.raises(ConversationLockedError):
        story.ask_again(story.messages()[0])
    story.queue()
    story.complete()
    with pytest.raises(ConversationLockedError):
        story.ask_again(story.messages()[0])
