"""Decisions on running turns: given events, a command, new events."""

from collections.abc import Callable
from typing import Any

import pytest

from domain.conversation import Conversation
from domain.decisions import running_turns, turn_starts
from domain.decisions.conversations import Events
from domain.decisions.turn_starts import Superseded, TurnSettings, settings_of
from domain.errors import InvalidContentError, TurnNotActiveError
from domain.events import MessageAdded, StreamDelta, TurnCancelled, TurnCompleted, TurnFailed, TurnStarted
from tests.support.histories.builders import BEGINNING, MODEL, TOOL, answer, draft, origin, some_id, turn_ids, usage
from tests.support.histories.stories import idle, locked, results, types, versions, waiting

CHUNKS: dict[str, Any] = {
    "first_seq": 2,
    "block_index": 0,
    "block_type": "text",
    "first_delta_index": 0,
    "chunks": ("a", "b"),
}
SETTINGS = TurnSettings(MODEL)


def test_a_turn_starts_with_the_message_of_the_user_and_its_settings() -> None:
    story, said, ids = idle(), draft("Why?"), turn_ids()
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"}, tools=(TOOL,))
    message, started = turn_starts.start_turn(story.state, origin(), said, settings, ids)
    assert isinstance(message, MessageAdded) and isinstance(started, TurnStarted)
    assert (message.turn_id, message.message_id, message.originator_version) == (ids.turn, said.id, 2)
    assert (started.turn_id, started.user_message_id, started.message_id) == (ids.turn, said.id, ids.answer)
    assert (started.model, started.max_context_tokens, started.temperature) == ("gpt-4o", 4000, 0.5)
    assert (started.max_output_tokens, started.metadata, started.originator_version) == (100, {"k": "v"}, 3)
    assert (started.tools, started.user_message_version) == ((TOOL,), 2)


def test_the_settings_of_a_turn_can_be_read_from_its_start() -> None:
    settings = TurnSettings("gpt-4o", 4000, 0.5, 100, {"k": "v"}, generate=False, tools=(TOOL,))
    *_, started = turn_starts.start_turn(idle().state, origin(), draft(), settings, turn_ids())
    assert isinstance(started, TurnStarted) and settings_of(started) == settings


def test_a_turn_with_invalid_content_is_refused() -> None:
    with pytest.raises(InvalidContentError):
        turn_starts.start_turn(idle().state, origin(), draft(content=()), SETTINGS, turn_ids())
    with pytest.raises(InvalidContentError):
        turn_starts.queue_turn(locked().state, origin(), draft(content=()), SETTINGS, turn_ids())


def test_a_delta_records_chunks_of_the_active_turn() -> None:
    story = locked()
    (event,) = running_turns.record_delta(story.state, origin(), story.turn_id, **CHUNKS)
    assert isinstance(event, StreamDelta)
    assert (event.turn_id, event.chunks, event.originator_version) == (story.turn_id, ("a", "b"), 4)


def test_a_completed_turn_adds_the_whole_answer_under_the_id_fixed_at_its_start() -> None:
    story = locked()
    turn = story.state.turn
    assert turn is not None
    used = usage()
    said = answer("Because.", usage=used, finish_reason="length", time_to_first_token_ms=3.0, duration_ms=9.0)
    message, ended = running_turns.complete_turn(story.state, origin(), turn.id, said)
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


def test_a_turn_without_text_completes_without_a_message() -> None:
    story = locked()
    events = running_turns.complete_turn(story.state, origin(), story.turn_id, answer(""))
    assert types(events) == [TurnCompleted]
    assert isinstance(events[0], TurnCompleted) and events[0].finish_reason == "stop"


def test_a_failed_turn_keeps_its_text_as_an_interrupted_message() -> None:
    story = locked()
    message, ended = running_turns.fail_turn(
        story.state, origin(), story.turn_id, answer("Be"), reason="model_timeout", detail="Too slow."
    )
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnFailed)
    assert (message.status, message.originator_version) == ("interrupted", 4)
    assert (ended.reason, ended.detail, ended.originator_version) == ("model_timeout", "Too slow.", 5)


def test_a_turn_that_failed_before_any_text_adds_no_message() -> None:
    story = locked()
    events = running_turns.fail_turn(
        story.state, origin(), story.turn_id, answer(""), reason="model_auth", detail="No."
    )
    assert types(events) == [TurnFailed]


def test_a_cancelled_turn_keeps_its_text_as_an_interrupted_message() -> None:
    story = locked()
    message, ended = running_turns.cancel_turn(story.state, origin(), story.turn_id, answer("Be"), some_id())
    assert isinstance(message, MessageAdded) and isinstance(ended, TurnCancelled)
    assert (message.status, versions([message, ended])) == ("interrupted", [4, 5])


def test_a_turn_cancelled_before_any_text_adds_no_message() -> None:
    story = locked()
    events = running_turns.cancel_turn(story.state, origin(), story.turn_id, answer(""), some_id())
    assert types(events) == [TurnCancelled]


TURN_COMMANDS: dict[str, Callable[[Conversation, Any], Events]] = {
    "record_delta": lambda state, turn_id: running_turns.record_delta(state, origin(), turn_id, **CHUNKS),
    "complete_turn": lambda state, turn_id: running_turns.complete_turn(state, origin(), turn_id, answer()),
    "fail_turn": lambda state, turn_id: running_turns.fail_turn(
        state, origin(), turn_id, answer(), reason="model_error", detail="No."
    ),
    "cancel_turn": lambda state, turn_id: running_turns.cancel_turn(state, origin(), turn_id, answer(), some_id()),
    "resume_turn": lambda state, turn_id: running_turns.resume_turn(
        state, origin(), turn_id, results("call_a_0"), some_id()
    ),
}


@pytest.mark.parametrize("decide", TURN_COMMANDS.values(), ids=TURN_COMMANDS)
def test_an_ended_turn_refuses_every_command(decide: Callable[[Conversation, Any], Events]) -> None:
    story = locked()
    ended = story.turn_id
    story.complete()
    with pytest.raises(TurnNotActiveError):
        decide(story.state, ended)


@pytest.mark.parametrize("decide", TURN_COMMANDS.values(), ids=TURN_COMMANDS)
def test_an_unknown_turn_refuses_every_command(decide: Callable[[Conversation, Any], Events]) -> None:
    with pytest.raises(TurnNotActiveError):
        decide(locked().state, some_id())


def test_every_event_of_a_decision_has_the_actor_the_time_and_the_request_id() -> None:
    story, asked = waiting(), origin(request_id="req-9")
    events = turn_starts.start_turn(story.state, asked, draft(), SETTINGS, turn_ids(), Superseded(2, 2))
    assert len(events) == 5
    for event in events:
        assert (event.actor, event.timestamp, event.request_id) == ("user:alice", BEGINNING, "req-9")
        assert event.originator_id == story.id


def test_a_queued_turn_takes_no_chunks_and_neither_completes_nor_fails() -> None:
    story = locked()
    story.queue()
    for decide in (TURN_COMMANDS["record_delta"], TURN_COMMANDS["complete_turn"], TURN_COMMANDS["fail_turn"]):
        with pytest.raises(TurnNotActiveError):
            decide(story.state, story.state.queue[0].id)


def test_a_suspended_turn_takes_no_chunks_and_neither_completes_nor_fails() -> None:
    story = waiting()
    for name in ("record_delta", "complete_turn", "fail_turn"):
        with pytest.raises(TurnNotActiveError):
            TURN_COMMANDS[name](story.state, story.turn_id)
