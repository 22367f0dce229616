"""Given what has happened, when something is wished for a turn, then these events, or this refusal."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from domain import turn_decisions
from domain.content import Content, Role, TextBlock, ToolResultBlock
from domain.conversation import Conversation
from domain.decisions import Draft, Events
from domain.errors import (
    ConversationDeletedError,
    ConversationLockedError,
    ConversationNotFoundError,
    InvalidContentError,
    TurnNotActiveError,
)
from domain.events import (
    MessageAdded,
    MessagesSuperseded,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.tools import UNANSWERED_ENCODING, UNANSWERED_TOKENS
from domain.turn_decisions import MAX_QUEUED, Question, Superseded, TurnSettings, settings_of
from tests.support.builders import (
    BEGINNING,
    MODEL,
    TOOL,
    Story,
    answer,
    draft,
    origin,
    some_id,
    turn_ids,
    usage,
)

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


def waiting(*tools: str, **said: Any) -> Story:
    """Return a conversation whose turn waits for the results of calls, `call_a_0` and so on."""
    story = locked()
    story.call_tools(*(tools or ("a", "b")), **said)
    return story


def deleted() -> Story:
    story = idle()
    story.delete()
    return story


def results(*calls: str) -> Draft:
    content = tuple(ToolResultBlock(tool_use_id=call, content="42") for call in calls)
    return draft(role="tool", content=content)


def errors_for(message: object) -> list[str]:
    """Return the calls that a message answers with errors, which is all it does."""
    assert isinstance(message, MessageAdded) and message.role == "tool"
    blocks = [block for block in message.content if isinstance(block, ToolResultBlock)]
    assert [block.is_error for block in blocks] == [True] * len(message.content)
    return [block.tool_use_id for block in blocks]


# What is in a start


def test_a_turn_starts_with_the_users_message_and_locks_the_conversation() -> None:
    story, said, ids = idle(), draft("Why?"), turn_ids()
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"}, tools=(TOOL,))
    message, started = turn_decisions.start_turn(story.state, origin(), said, settings, ids)
    assert isinstance(message, MessageAdded) and isinstance(started, TurnStarted)
    assert (message.turn_id, message.message_id, message.originator_version) == (ids.turn, said.id, 2)
    assert (started.turn_id, started.user_message_id, started.message_id) == (ids.turn, said.id, ids.answer)
    assert (started.model, started.max_context_tokens, started.temperature) == ("gpt-4o", 4000, 0.5)
    assert (started.max_output_tokens, started.metadata, started.originator_version) == (100, {"k": "v"}, 3)
    assert (started.tools, started.user_message_version) == ((TOOL,), 2)


def test_the_settings_of_a_turn_can_be_taken_from_its_start() -> None:
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"}, generate=False, tools=(TOOL,))
    *_, started = turn_decisions.start_turn(idle().state, origin(), draft(), settings, turn_ids())
    assert isinstance(started, TurnStarted) and settings_of(started) == settings


def test_a_turn_with_bad_content_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        turn_decisions.start_turn(idle().state, origin(), draft(content=()), SETTINGS, turn_ids())
    with pytest.raises(InvalidContentError):
        turn_decisions.queue_turn(locked().state, origin(), draft(content=()), SETTINGS, turn_ids())


def test_a_delta_keeps_the_chunks_of_the_active_turn() -> None:
    story = locked()
    (event,) = turn_decisions.record_delta(story.state, origin(), story.turn_id, **CHUNKS)
    assert isinstance(event, StreamDelta)
    assert (event.turn_id, event.chunks, event.originator_version) == (story.turn_id, ("a", "b"), 4)


def test_a_completed_turn_holds_the_whole_answer_under_the_id_fixed_at_its_start() -> None:
    story = locked()
    turn = story.state.turn
    assert turn is not None
    used = usage()
    said = answer("Because.", usage=used, finish_reason="length", time_to_first_token_ms=3.0, duration_ms=9.0)
    message, ended = turn_decisions.complete_turn(story.state, origin(), turn.id, said)
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
    events = turn_decisions.complete_turn(story.state, origin(), story.turn_id, answer(""))
    assert types(events) == [TurnCompleted]
    assert isinstance(events[0], TurnCompleted) and events[0].finish_reason == "stop"


def test_a_failed_turn_keeps_what_was_said_as_an_interrupted_message() -> None:
    story = locked()
    message, ended = turn_decisions.fail_turn(
        story.state, origin(), story.turn_id, answer("Be"), reason="model_timeout", detail="Too slow."
    )
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnFailed)
    assert (message.status, message.originator_version) == ("interrupted", 4)
    assert (ended.reason, ended.detail, ended.originator_version) == ("model_timeout", "Too slow.", 5)


def test_a_turn_that_failed_before_a_word_leaves_no_message() -> None:
    story = locked()
    events = turn_decisions.fail_turn(
        story.state, origin(), story.turn_id, answer(""), reason="model_auth", detail="No."
    )
    assert types(events) == [TurnFailed]


def test_a_cancelled_turn_keeps_what_was_said_as_an_interrupted_message() -> None:
    story = locked()
    message, ended = turn_decisions.cancel_turn(story.state, origin(), story.turn_id, answer("Be"), some_id())
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnCancelled)
    assert (message.status, versions([message, ended])) == ("interrupted", [4, 5])


def test_a_turn_cancelled_before_a_word_leaves_no_message() -> None:
    story = locked()
    events = turn_decisions.cancel_turn(story.state, origin(), story.turn_id, answer(""), some_id())
    assert types(events) == [TurnCancelled]


# The queue


def test_a_queued_turn_holds_its_question_and_settings_and_says_nothing_yet() -> None:
    story, said, ids = locked(), draft("And then?"), turn_ids()
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"}, tools=(TOOL,))
    (queued,) = turn_decisions.queue_turn(story.state, origin(), said, settings, ids, from_version=2)
    assert isinstance(queued, TurnQueued)
    assert (queued.turn_id, queued.user_message_id, queued.message_id) == (ids.turn, said.id, ids.answer)
    assert (queued.content, queued.tokens, queued.encoding) == (said.content, said.tokens, said.encoding)
    assert (settings_of(queued), queued.from_version, queued.ahead) == (settings, 2, False)
    assert (queued.originator_version, story.state.message_count) == (4, 1)


def words_of(events: Events) -> list[str]:
    return [
        block.text
        for event in events
        if isinstance(event, MessageAdded)
        for block in event.content
        if isinstance(block, TextBlock)
    ]


def test_queued_turns_start_in_the_order_in_which_they_were_asked_for_but_for_those_that_go_ahead() -> None:
    story = locked()
    story.queue("third")
    story.queue("fourth")
    story.queue("second", ahead=True)
    story.queue("first", ahead=True)
    asked: list[str] = []
    while story.state.queue:
        story.complete()
        asked += words_of(story.start_next())
    assert asked == ["first", "second", "third", "fourth"]


def test_a_queued_turn_starts_as_it_was_asked_for() -> None:
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
    assert turn is not None and (turn.first_version, story.state.queue) == (queued.originator_version, ())


def test_a_hundred_turns_may_wait_and_one_more_is_refused() -> None:
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


def test_a_hundred_that_wait_are_full_even_where_the_active_turn_waits_for_results_or_has_ended() -> None:
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
    return turn_decisions.start_queued_turn(story.state, origin(), queued, some_id())


@pytest.mark.parametrize("make", [locked, waiting])
def test_a_queued_turn_does_not_start_while_another_is_active(make: Callable[[], Story]) -> None:
    story = make()
    story.queue()
    with pytest.raises(ConversationLockedError) as refusal:
        start_queued(story, story.state.queue[0].id)
    assert refusal.value.active_turn_id == story.turn_id


def test_a_queued_turn_does_not_start_before_those_that_come_before_it() -> None:
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


def test_a_cancelled_queued_turn_ends_without_a_word_and_disturbs_nobody() -> None:
    story = locked()
    story.queue("First")
    story.queue("Second")
    first, second = (turn.id for turn in story.state.queue)
    active = story.turn_id
    (cancelled,) = story.cancel_queued(first)
    assert isinstance(cancelled, TurnCancelled)
    assert (cancelled.turn_id, cancelled.duration_ms, cancelled.time_to_first_token_ms) == (first, None, None)
    assert (story.turn_id, [turn.id for turn in story.state.queue]) == (active, [second])


def test_nobody_comes_before_those_that_wait() -> None:
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


def test_a_queued_turn_takes_no_chunks_and_no_end_but_a_cancel() -> None:
    story = locked()
    story.queue()
    for decide in (OF_TURNS["record_delta"], OF_TURNS["complete_turn"], OF_TURNS["fail_turn"]):
        with pytest.raises(TurnNotActiveError):
            decide(story.state, story.state.queue[0].id)


# Tools


def test_an_answer_that_calls_tools_makes_its_turn_wait_and_unlocks_the_conversation() -> None:
    story = locked()
    before = story.state.turn
    said, suspended = story.call_tools("a", "b", words="Let me see.", usage=usage(), time_to_first_token_ms=3.0)
    assert isinstance(said, MessageAdded) and isinstance(suspended, TurnSuspended) and before is not None
    assert (said.message_id, said.status, said.finish_reason) == (before.message_id, "completed", "tool_use")
    assert (suspended.turn_id, suspended.message_id, suspended.usage) == (before.id, before.message_id, usage())
    assert (suspended.time_to_first_token_ms, suspended.duration_ms) == (3.0, 40.0)
    turn = story.state.turn
    assert turn is not None and turn.waiting
    assert (story.state.open_calls, story.state.locked_by) == (("call_a_0", "call_b_1"), None)


def test_the_results_of_all_open_calls_let_the_model_go_on_under_another_answers_id() -> None:
    story, answer_id = waiting(), some_id()
    turn = story.state.turn
    assert turn is not None
    said, resumed = turn_decisions.resume_turn(
        story.state, origin(), turn.id, results("call_b_1", "call_a_0"), answer_id
    )
    assert isinstance(said, MessageAdded) and isinstance(resumed, TurnResumed)
    assert (said.role, said.turn_id, said.author_id, said.in_reply_to) == ("tool", turn.id, "alice", None)
    assert (resumed.turn_id, resumed.user_message_id) == (turn.id, turn.user_message_id)
    assert (resumed.message_id, resumed.model) == (answer_id, MODEL)
    assert versions([said, resumed]) == [story.state.version + 1, story.state.version + 2]


def test_a_turn_that_goes_on_is_locked_again_and_ends_like_any_other() -> None:
    story = waiting()
    story.give_results()
    turn = story.state.turn
    assert turn is not None and not turn.waiting
    assert (story.state.locked_by, story.state.open_calls) == (turn.id, ())
    said, ended = story.complete()
    assert isinstance(said, MessageAdded) and isinstance(ended, TurnCompleted)
    assert (said.message_id, said.in_reply_to) == (turn.message_id, turn.user_message_id)


WRONG_RESULTS = {
    "one is missing": (["call_a_0"], ("results",)),
    "one is of no call": (["call_a_0", "call_b_1", "call_c_2"], ("results", 2, "tool_use_id")),
    "one is of another call": (["call_a_0", "call_x_0"], ("results", 1, "tool_use_id")),
    "one comes twice": (["call_a_0", "call_a_0", "call_b_1"], ("results", 1, "tool_use_id")),
}


@pytest.mark.parametrize("wrong", WRONG_RESULTS)
def test_results_must_be_exactly_those_of_the_open_calls(wrong: str) -> None:
    story = waiting()
    calls, loc = WRONG_RESULTS[wrong]
    with pytest.raises(InvalidContentError) as refusal:
        turn_decisions.resume_turn(story.state, origin(), story.turn_id, results(*calls), some_id())
    assert refusal.value.loc == loc


def test_a_turn_without_results_does_not_go_on() -> None:
    story = waiting()
    with pytest.raises(InvalidContentError):
        turn_decisions.resume_turn(story.state, origin(), story.turn_id, results(), some_id())


def test_only_a_turn_that_waits_takes_results() -> None:
    story = waiting()
    turn_id = story.turn_id
    story.give_results()
    for _ in range(2):  # while it runs, and when it has ended
        with pytest.raises(TurnNotActiveError):
            turn_decisions.resume_turn(story.state, origin(), turn_id, results("call_a_0"), some_id())
        if story.state.turn:
            story.complete()


def test_a_turn_that_waits_takes_no_chunks_and_neither_completes_nor_fails() -> None:
    story = waiting()
    for name in ("record_delta", "complete_turn", "fail_turn"):
        with pytest.raises(TurnNotActiveError):
            OF_TURNS[name](story.state, story.turn_id)


def test_a_users_message_to_a_turn_that_waits_closes_its_calls_with_errors_and_ends_it() -> None:
    story = waiting(time_to_first_token_ms=3.0)
    turn_id = story.turn_id
    closing, ended, said = story.say("Never mind.")
    assert errors_for(closing) == ["call_a_0", "call_b_1"]
    assert isinstance(closing, MessageAdded) and isinstance(ended, TurnCancelled) and isinstance(said, MessageAdded)
    assert (closing.turn_id, closing.tokens, closing.encoding) == (
        turn_id,
        2 * UNANSWERED_TOKENS,
        UNANSWERED_ENCODING,
    )
    assert (ended.turn_id, ended.time_to_first_token_ms, ended.duration_ms) == (turn_id, 3.0, 40.0)
    assert (said.role, said.turn_id, versions([closing, ended, said])) == ("user", None, [6, 7, 8])
    assert (story.state.turn, story.state.open_calls) == (None, ())


def test_a_new_turn_ends_the_one_that_waits() -> None:
    story = waiting()
    events = story.ask("Something else")
    assert types(events) == [MessageAdded, TurnCancelled, MessageAdded, TurnStarted]
    assert (errors_for(events[0]), versions(events)) == (["call_a_0", "call_b_1"], [6, 7, 8, 9])
    turn = story.state.turn
    assert turn is not None and (turn.first_version, turn.waiting, turn.duration_ms) == (9, False, 0.0)


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_other_messages_to_a_turn_that_waits_are_refused(role: Role) -> None:
    story = waiting()
    content: Content = results("call_a_0", "call_b_1").content if role == "tool" else draft().content
    with pytest.raises(ConversationLockedError) as refusal:
        story.say(role=role, content=content)
    assert refusal.value.active_turn_id == story.turn_id


def test_no_message_is_deleted_while_a_turn_waits() -> None:
    story = waiting()
    with pytest.raises(ConversationLockedError):
        story.unsay(story.messages()[0].message_id)


def test_a_message_to_a_turn_that_waits_is_refused_while_others_wait_for_that_turn() -> None:
    story = locked()
    story.queue()
    story.call_tools("a")
    with pytest.raises(ConversationLockedError) as refusal:
        story.say()
    assert refusal.value.active_turn_id == story.state.queue[0].id


def test_a_turn_that_waits_is_cancelled_with_errors_for_its_calls() -> None:
    story, closing_id = waiting(), some_id()
    closing, ended = turn_decisions.cancel_turn(story.state, origin(), story.turn_id, answer(""), closing_id)
    assert errors_for(closing) == ["call_a_0", "call_b_1"]
    assert isinstance(closing, MessageAdded) and isinstance(ended, TurnCancelled)
    assert (closing.message_id, ended.duration_ms, ended.turn_id) == (closing_id, 40.0, story.turn_id)


def test_usage_and_times_of_a_turn_are_those_of_all_its_calls_of_the_model() -> None:
    story = locked()
    first = usage(cost_usd=Decimal("0.001"), cached_input_tokens=3)
    _, suspended = story.call_tools("a", usage=first, time_to_first_token_ms=3.0, duration_ms=40.0)
    story.give_results()
    second = usage(input_tokens=20, cost_usd=Decimal("0.002"), reasoning_tokens=1, estimated=True)
    _, again = story.call_tools("b", usage=second, time_to_first_token_ms=5.0, duration_ms=50.5)
    story.give_results()
    said, ended = story.complete(usage=usage(), time_to_first_token_ms=6.0, duration_ms=9.0)
    assert isinstance(suspended, TurnSuspended) and isinstance(again, TurnSuspended)
    assert isinstance(said, MessageAdded) and isinstance(ended, TurnCompleted)
    both = usage(
        input_tokens=30,
        output_tokens=10,
        cached_input_tokens=3,
        reasoning_tokens=1,
        cost_usd=Decimal("0.003"),
        estimated=True,
    )
    assert (suspended.usage, again.usage, said.usage) == (first, both, usage())
    assert ended.usage == both.plus(usage())
    times = [(event.time_to_first_token_ms, event.duration_ms) for event in (suspended, again, ended)]
    assert times == [(3.0, 40.0), (3.0, 90.5), (3.0, 99.5)]


def test_the_first_token_of_a_turn_that_called_tools_in_silence_comes_after_what_it_ran_before() -> None:
    story = waiting(duration_ms=40.0)
    story.give_results()
    *_, ended = story.fail("Be", time_to_first_token_ms=5.0, duration_ms=9.0)
    assert isinstance(ended, TurnFailed)
    assert (ended.time_to_first_token_ms, ended.duration_ms) == (45.0, 49.0)


def test_what_is_not_known_of_the_last_call_of_a_model_is_not_known_of_its_turn_but_for_what_was_used_before() -> None:
    story = waiting(usage=usage())
    story.give_results()
    (ended,) = story.complete("")
    assert isinstance(ended, TurnCompleted)
    assert (ended.usage, ended.duration_ms) == (usage(), None)


# Answering again, and replacing


def test_a_question_is_answered_again_and_all_that_came_after_it_is_superseded() -> None:
    story = locked()
    story.complete("One")
    story.ask("And?")
    story.complete("Two")
    question, ids = story.messages()[0], turn_ids()
    asked = Question(question.message_id, question.originator_version)
    superseded, started = turn_decisions.answer_again(
        story.state, origin(), asked, TurnSettings("gpt-4o"), ids, Superseded(3, 3)
    )
    assert isinstance(superseded, MessagesSuperseded) and isinstance(started, TurnStarted)
    assert (superseded.from_version, superseded.count, superseded.originator_version) == (3, 3, 10)
    assert (started.user_message_id, started.user_message_version) == (question.message_id, 2)
    assert (started.turn_id, started.message_id, started.model) == (ids.turn, ids.answer, "gpt-4o")
    assert started.originator_version == 11


def test_after_a_second_answer_the_superseded_are_counted_no_more_and_the_question_is_the_last_one() -> None:
    story = locked()
    story.complete("One")
    story.ask("And?")
    story.complete("Two")
    question = story.messages()[0]
    story.ask_again(question)
    assert (story.state.message_count, story.state.last_user_message_id) == (1, question.message_id)
    story.complete("Another")
    assert story.state.message_count == 2


def test_what_nobody_answered_yet_is_answered_without_superseding_anything() -> None:
    story = idle()
    story.say()
    assert types(story.ask_again(story.messages()[0])) == [TurnStarted]


def test_a_message_takes_the_place_of_another_and_of_all_after_it() -> None:
    story = locked()
    story.complete("One")
    superseded, said, started = story.ask("Otherwise?", replacing=2)
    assert isinstance(superseded, MessagesSuperseded) and isinstance(said, MessageAdded)
    assert (superseded.from_version, superseded.count, superseded.originator_version) == (2, 2, 6)
    assert isinstance(started, TurnStarted) and started.user_message_version == said.originator_version == 7
    assert story.state.message_count == 1


def test_what_is_superseded_already_or_deleted_is_not_counted_again() -> None:
    story = locked()
    story.complete("One")
    story.say("Two")
    story.unsay(story.messages()[-1].message_id)
    story.ask("Otherwise?", replacing=4)  # its answer, not the question
    story.complete("Three")
    superseded, *_ = story.ask("From the beginning?", replacing=2)
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.count, story.state.message_count) == (3, 1)


def test_calls_are_closed_before_their_answer_is_superseded_and_the_results_go_with_it() -> None:
    story = waiting()
    events = story.ask("Otherwise?", replacing=2)
    assert types(events) == [MessageAdded, TurnCancelled, MessagesSuperseded, MessageAdded, TurnStarted]
    superseded = events[2]
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.from_version, superseded.count, versions(events)) == (2, 3, [6, 7, 8, 9, 10])
    assert (story.state.message_count, story.state.open_calls) == (1, ())


def test_a_turn_that_waits_ends_before_its_question_is_answered_again() -> None:
    story = waiting()
    events = story.ask_again(story.messages()[0])
    assert types(events) == [MessageAdded, TurnCancelled, MessagesSuperseded, TurnStarted]
    assert isinstance(events[2], MessagesSuperseded) and events[2].count == 2
    assert story.state.message_count == 1


def test_a_queued_turn_supersedes_when_it_starts_all_that_came_since() -> None:
    story = locked()
    story.queue("Otherwise?", replacing=2)
    story.complete("One")
    superseded, said, started = story.start_next()
    assert isinstance(superseded, MessagesSuperseded)
    assert (superseded.from_version, superseded.count) == (2, 2)
    assert (types([said, started]), story.state.message_count) == ([MessageAdded, TurnStarted], 1)


def test_a_superseded_message_is_deleted_without_being_counted_again() -> None:
    story = locked()
    story.complete("One")
    question, reply = story.messages()
    story.ask_again(question)
    story.complete("Another")
    story.unsay(reply.message_id, superseded=True)
    assert story.state.message_count == 2
    story.unsay(question.message_id)
    assert story.state.message_count == 1


def test_nothing_is_answered_again_while_a_turn_runs_or_is_about_to() -> None:
    story = locked()
    with pytest.raises(ConversationLockedError):
        story.ask_again(story.messages()[0])
    story.queue()
    story.complete()
    with pytest.raises(ConversationLockedError):
        story.ask_again(story.messages()[0])


# Whose it is


QUESTION, SUPERSEDED = Question(UUID(int=1), 2), Superseded(3, 1)
OF_OWNERS: dict[str, Callable[[Conversation, str], Events]] = {
    "start_turn": lambda state, actor: turn_decisions.start_turn(state, origin(actor), draft(), SETTINGS, turn_ids()),
    "answer_again": lambda state, actor: turn_decisions.answer_again(
        state, origin(actor), QUESTION, SETTINGS, turn_ids(), SUPERSEDED
    ),
    "queue_turn": lambda state, actor: turn_decisions.queue_turn(state, origin(actor), draft(), SETTINGS, turn_ids()),
    "resume_turn": lambda state, actor: turn_decisions.resume_turn(
        state, origin(actor), some_id(), results("call_a_0"), some_id()
    ),
    "cancel_turn": lambda state, actor: turn_decisions.cancel_turn(
        state, origin(actor), some_id(), answer(), some_id()
    ),
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


@pytest.mark.parametrize("name", ["start_turn", "answer_again"])
def test_a_locked_conversation_refuses_and_names_the_turn_that_locks_it(name: str) -> None:
    story = locked()
    with pytest.raises(ConversationLockedError) as refusal:
        OF_OWNERS[name](story.state, "alice")
    assert refusal.value.active_turn_id == story.turn_id


OF_TURNS: dict[str, Callable[[Conversation, Any], Events]] = {
    "record_delta": lambda state, turn_id: turn_decisions.record_delta(state, origin(), turn_id, **CHUNKS),
    "complete_turn": lambda state, turn_id: turn_decisions.complete_turn(state, origin(), turn_id, answer()),
    "fail_turn": lambda state, turn_id: turn_decisions.fail_turn(
        state, origin(), turn_id, answer(), reason="model_error", detail="No."
    ),
    "cancel_turn": lambda state, turn_id: turn_decisions.cancel_turn(state, origin(), turn_id, answer(), some_id()),
    "resume_turn": lambda state, turn_id: turn_decisions.resume_turn(
        state, origin(), turn_id, results("call_a_0"), some_id()
    ),
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
    story, asked = waiting(), origin(request_id="req-9")
    events = turn_decisions.start_turn(story.state, asked, draft(), SETTINGS, turn_ids(), Superseded(2, 2))
    assert len(events) == 5
    for event in events:
        assert (event.actor, event.timestamp, event.request_id) == ("alice", BEGINNING, "req-9")
        assert event.originator_id == story.id
