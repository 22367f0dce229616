"""Suspended turns resume with tool results, or end with error results."""

from datetime import timedelta
from decimal import Decimal

import pytest

from domain.content import Content, Role, ToolResultBlock
from domain.conversation import fold
from domain.decisions import running_turns
from domain.errors import ConversationLockedError, InvalidContentError, TurnNotActiveError
from domain.events import (
    MessageAdded,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.tools import UNANSWERED_ENCODING, UNANSWERED_TOKENS
from tests.support.histories.builders import BEGINNING, MODEL, answer, draft, origin, some_id, usage
from tests.support.histories.stories import locked, results, types, versions, waiting


def calls_with_errors(message: object) -> list[str]:
    """Return the calls that a message answers. All its blocks are error results."""
    assert isinstance(message, MessageAdded) and message.role == "tool"
    blocks = [block for block in message.content if isinstance(block, ToolResultBlock)]
    assert [block.is_error for block in blocks] == [True] * len(message.content)
    return [block.tool_use_id for block in blocks]


def test_an_answer_with_tool_calls_suspends_its_turn_and_unlocks_the_conversation() -> None:
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


def test_the_results_of_all_open_calls_resume_the_turn_with_a_new_answer_id() -> None:
    story, answer_id = waiting(), some_id()
    turn = story.state.turn
    assert turn is not None
    said, resumed = running_turns.resume_turn(
        story.state, origin(), turn.id, results("call_b_1", "call_a_0"), answer_id
    )
    assert isinstance(said, MessageAdded) and isinstance(resumed, TurnResumed)
    assert (said.role, said.turn_id, said.author_id, said.in_reply_to) == ("tool", turn.id, "user:alice", None)
    assert (resumed.turn_id, resumed.user_message_id) == (turn.id, turn.user_message_id)
    assert (resumed.message_id, resumed.model) == (answer_id, MODEL)
    assert versions([said, resumed]) == [story.state.version + 1, story.state.version + 2]


def test_a_resumed_turn_locks_the_conversation_again_and_ends_like_any_other() -> None:
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
        running_turns.resume_turn(story.state, origin(), story.turn_id, results(*calls), some_id())
    assert refusal.value.path == loc


def test_a_suspended_turn_does_not_resume_without_results() -> None:
    story = waiting()
    with pytest.raises(InvalidContentError):
        running_turns.resume_turn(story.state, origin(), story.turn_id, results(), some_id())


def test_only_a_suspended_turn_takes_results() -> None:
    story = waiting()
    turn_id = story.turn_id
    story.give_results()
    for _ in range(2):  # while it runs, and when it has ended
        with pytest.raises(TurnNotActiveError):
            running_turns.resume_turn(story.state, origin(), turn_id, results("call_a_0"), some_id())
        if story.state.turn:
            story.complete()


def test_a_user_message_closes_the_calls_of_a_suspended_turn_with_errors_and_cancels_it() -> None:
    story = waiting(time_to_first_token_ms=3.0)
    turn_id = story.turn_id
    closing, ended, said = story.say("Never mind.")
    assert calls_with_errors(closing) == ["call_a_0", "call_b_1"]
    assert isinstance(closing, MessageAdded) and isinstance(ended, TurnCancelled) and isinstance(said, MessageAdded)
    assert (closing.turn_id, closing.tokens, closing.encoding) == (
        turn_id,
        2 * UNANSWERED_TOKENS,
        UNANSWERED_ENCODING,
    )
    assert (ended.turn_id, ended.time_to_first_token_ms, ended.duration_ms) == (turn_id, 3.0, 40.0)
    assert (said.role, said.turn_id, versions([closing, ended, said])) == ("user", None, [6, 7, 8])
    assert (story.state.turn, story.state.open_calls) == (None, ())


def test_a_new_turn_cancels_the_suspended_one() -> None:
    story = waiting()
    events = story.ask("Something else")
    assert types(events) == [MessageAdded, TurnCancelled, MessageAdded, TurnStarted]
    assert (calls_with_errors(events[0]), versions(events)) == (["call_a_0", "call_b_1"], [6, 7, 8, 9])
    turn = story.state.turn
    assert turn is not None and (turn.first_version, turn.waiting, turn.duration_ms) == (9, False, 0.0)


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_messages_of_other_roles_are_refused_while_a_turn_is_suspended(role: Role) -> None:
    story = waiting()
    content: Content = results("call_a_0", "call_b_1").content if role == "tool" else draft().content
    with pytest.raises(ConversationLockedError) as refusal:
        story.say(role=role, content=content)
    assert refusal.value.active_turn_id == story.turn_id


def test_no_message_is_deleted_while_a_turn_is_suspended() -> None:
    story = waiting()
    with pytest.raises(ConversationLockedError):
        story.unsay(story.messages()[0].message_id)


def test_a_message_to_a_suspended_turn_is_refused_while_turns_are_queued() -> None:
    story = locked()
    story.queue()
    story.call_tools("a")
    with pytest.raises(ConversationLockedError) as refusal:
        story.say()
    assert refusal.value.active_turn_id == story.state.queue[0].id


def test_cancelling_a_suspended_turn_closes_its_calls_with_errors() -> None:
    story, closing_id = waiting(), some_id()
    closing, ended = running_turns.cancel_turn(story.state, origin(), story.turn_id, answer(""), closing_id)
    assert calls_with_errors(closing) == ["call_a_0", "call_b_1"]
    assert isinstance(closing, MessageAdded) and isinstance(ended, TurnCancelled)
    assert (closing.message_id, ended.duration_ms, ended.turn_id) == (closing_id, 40.0, story.turn_id)


def test_usage_and_times_of_a_turn_are_summed_over_its_model_calls() -> None:
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


def test_the_time_to_the_first_token_includes_earlier_model_calls_without_text() -> None:
    story = waiting(duration_ms=40.0)
    story.give_results()
    *_, ended = story.fail("Be", time_to_first_token_ms=5.0, duration_ms=9.0)
    assert isinstance(ended, TurnFailed)
    assert (ended.time_to_first_token_ms, ended.duration_ms) == (45.0, 49.0)


def test_an_unknown_duration_of_the_last_model_call_leaves_only_the_earlier_usage() -> None:
    story = waiting(usage=usage())
    story.give_results()
    (ended,) = story.complete("")
    assert isinstance(ended, TurnCompleted)
    assert (ended.usage, ended.duration_ms) == (usage(), None)


def test_a_wait_without_a_limit_has_no_end() -> None:
    story = waiting()
    assert story.state.turn is not None and story.state.turn.results_due_at is None
    with pytest.raises(TurnNotActiveError):
        running_turns.time_out_turn(story.state, origin(), story.turn_id, some_id())


def test_a_turn_whose_results_are_overdue_fails_and_closes_its_calls() -> None:
    story = waiting(timeout_s=1.5, usage=usage(), time_to_first_token_ms=3.0)
    suspended = story.events[-1]
    assert isinstance(suspended, TurnSuspended)
    due = suspended.timestamp + timedelta(seconds=1.5)
    assert suspended.results_due_at == due
    too_early = origin(at=due - timedelta(microseconds=1))
    with pytest.raises(TurnNotActiveError):
        running_turns.time_out_turn(story.state, too_early, story.turn_id, some_id())
    closed, failed = running_turns.time_out_turn(story.state, origin(at=due), story.turn_id, some_id())
    assert calls_with_errors(closed) == ["call_a_0", "call_b_1"]
    assert isinstance(failed, TurnFailed)
    assert (failed.reason, failed.turn_id, failed.time_to_first_token_ms) == ("tool_results_timeout", story.turn_id, 3)
    assert failed.duration_ms == 40
    after = fold(story.state, [closed, failed])
    assert after is not None and (after.turn, after.open_calls) == (None, ())


@pytest.mark.parametrize("resumed", [True, False])
def test_a_turn_that_does_not_wait_is_not_overdue(resumed: bool) -> None:
    story = waiting(timeout_s=1)
    if resumed:
        story.give_results()
        assert story.state.turn is not None and story.state.turn.results_due_at is None
    turn_id = story.turn_id
    if not resumed:
        story.cancel()
    with pytest.raises(TurnNotActiveError):
        running_turns.time_out_turn(story.state, origin(at=BEGINNING + timedelta(days=9)), turn_id, some_id())


def test_each_wait_of_a_turn_has_a_time_of_its_own() -> None:
    story = waiting(timeout_s=60)
    story.give_results()
    story.call_tools("a")
    assert story.state.turn is not None and story.state.turn.results_due_at is None
