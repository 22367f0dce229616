"""Queued turns: their order, their start, and the commands that they block."""

from collections.abc import Callable
from uuid import UUID

import pytest

from domain.content import TextBlock
from domain.decisions import turn_starts
from domain.decisions.conversations import Events
from domain.decisions.turn_starts import MAX_QUEUED, TurnSettings, settings_of
from domain.errors import ConversationLockedError, TurnNotActiveError
from domain.events import MessageAdded, TurnCancelled, TurnQueued, TurnStarted
from tests.support.histories.builders import RESOLVED, TOOL, Story, draft, origin, some_id, turn_ids
from tests.support.histories.stories import locked, waiting


def test_a_queued_turn_holds_its_question_and_settings_and_adds_no_message_yet() -> None:
    story, said, ids = locked(), draft("And then?"), turn_ids()
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"}, tools=(TOOL,))
    (queued,) = turn_starts.queue_turn(story.state, origin(), said, settings, ids, from_version=2)
    assert isinstance(queued, TurnQueued)
    assert (queued.turn_id, queued.user_message_id, queued.message_id) == (ids.turn, said.id, ids.answer)
    assert (queued.content, queued.tokens, queued.encoding) == (said.content, said.tokens, said.encoding)
    assert (settings_of(queued), queued.from_version, queued.ahead) == (settings, 2, False)
    assert (queued.originator_version, story.state.message_count) == (4, 1)


def texts_of(events: Events) -> list[str]:
    return [
        block.text
        for event in events
        if isinstance(event, MessageAdded)
        for block in event.content
        if isinstance(block, TextBlock)
    ]


def test_queued_turns_start_in_the_order_of_their_requests_after_those_queued_ahead() -> None:
    story = locked()
    story.queue("third")
    story.queue("fourth")
    story.queue("second", ahead=True)
    story.queue("first", ahead=True)
    asked: list[str] = []
    while story.state.queue:
        story.complete()
        asked += texts_of(story.start_next())
    assert asked == ["first", "second", "third", "fourth"]


def test_a_queued_turn_starts_with_the_content_and_settings_of_its_request() -> None:
    story = locked()
    (queued,) = story.queue("And then?")
    assert isinstance(queued, TurnQueued)
    story.complete()
    question, started = story.start_next()
    assert isinstance(question, MessageAdded) and isinstance(started, TurnStarted)
    assert (question.message_id, question.turn_id, question.role) == (queued.user_message_id, queued.turn_id, "user")
    assert (question.content, question.tokens, question.encoding) == (queued.content, queued.tokens, queued.encoding)
    assert (started.turn_id, started.message_id) == (queued.turn_id, queued.message_id)
    assert (settings_of(started), started.user_message_version) == (settings_of(queued), question.originator_version)
    turn = story.state.turn
    assert turn is not None and (turn.first_version, story.state.queue) == (started.originator_version, ())


def test_a_queued_turn_keeps_open_what_its_request_left_open_until_it_starts() -> None:
    story = locked()
    (queued,) = story.queue(left_open=("model", "tools"))
    assert isinstance(queued, TurnQueued)
    assert queued.left_open == ("model", "tools")
    story.complete()
    _, started = story.start_next(model="gpt-4o", tools=(TOOL,), agent=RESOLVED)
    assert isinstance(started, TurnStarted)
    assert (started.model, started.tools, started.agent) == ("gpt-4o", (TOOL,), RESOLVED)
    assert settings_of(started).agent == RESOLVED


def test_a_hundred_turns_can_be_queued_and_one_more_is_refused() -> None:
    story = locked()
    for _ in range(MAX_QUEUED):
        story.queue()
    for ahead in (False, True):
        with pytest.raises(ConversationLockedError) as refusal:
            story.queue(ahead=ahead)
        assert refusal.value.active_turn_id == story.turn_id
    story.cancel_queued(story.state.queue[5].id)
    story.queue()
    assert (MAX_QUEUED, len(story.state.queue)) == (100, 100)


def test_a_full_queue_refuses_turns_even_if_the_active_turn_is_suspended_or_has_ended() -> None:
    story = locked()
    for _ in range(MAX_QUEUED):
        story.queue()
    story.call_tools("a")
    with pytest.raises(ConversationLockedError):
        story.queue()
    story.cancel()
    with pytest.raises(ConversationLockedError):
        story.queue()


def start_queued(story: Story, turn_id: UUID) -> Events:
    queued = next(event for event in story.events if isinstance(event, TurnQueued) and event.turn_id == turn_id)
    return turn_starts.start_queued_turn(story.state, origin(), queued, some_id(), settings_of(queued))


@pytest.mark.parametrize("make", [locked, waiting])
def test_a_queued_turn_does_not_start_while_another_is_active(make: Callable[[], Story]) -> None:
    story = make()
    story.queue()
    with pytest.raises(ConversationLockedError) as refusal:
        start_queued(story, story.state.queue[0].id)
    assert refusal.value.active_turn_id == story.turn_id


def test_a_queued_turn_does_not_start_before_the_turns_ahead_of_it() -> None:
    story = locked()
    story.queue("First")
    story.queue("Second")
    story.complete()
    first, second = story.state.queue
    with pytest.raises(ConversationLockedError) as refusal:
        start_queued(story, second.id)
    assert refusal.value.active_turn_id == first.id


def test_a_queued_turn_that_was_cancelled_or_has_started_does_not_start() -> None:
    story = locked()
    story.queue("First")
    story.queue("Second")
    first, second = (turn.id for turn in story.state.queue)
    story.cancel_queued(first)
    story.complete()
    story.start_next()
    story.complete()
    for turn_id in (first, second):
        with pytest.raises(TurnNotActiveError):
            start_queued(story, turn_id)


def test_a_cancelled_queued_turn_ends_without_a_message_and_leaves_other_turns_alone() -> None:
    story = locked()
    story.queue("First")
    story.queue("Second")
    first, second = (turn.id for turn in story.state.queue)
    active = story.turn_id
    (cancelled,) = story.cancel_queued(first)
    assert isinstance(cancelled, TurnCancelled)
    assert (cancelled.turn_id, cancelled.duration_ms, cancelled.time_to_first_token_ms) == (first, None, None)
    assert (story.turn_id, [turn.id for turn in story.state.queue]) == (active, [second])


def test_turns_and_messages_are_refused_while_a_turn_is_queued() -> None:
    story = locked()
    story.queue()
    story.complete()
    (next_one,) = story.state.queue
    with pytest.raises(ConversationLockedError) as refusal:
        story.ask()
    assert refusal.value.active_turn_id == next_one.id == story.state.locked_by
    for role in ("user", "system"):
        with pytest.raises(ConversationLockedError):
            story.say(role=role)
