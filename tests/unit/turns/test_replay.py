"""The frames of queued and suspended turns."""

import json
from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.sse import turn_event
from domain.events import MessageAdded, StreamedBlock, TurnBegun, TurnEnded, TurnResumed, TurnStarted, TurnSuspended
from eventlog.mapper import ConversationMapper, JSONBytesTranscoder, Recorded
from tests.support.histories.builders import Story, usage
from turns.frames.frames import Frame, TurnFrames
from turns.frames.replay import TurnKey, TurnReplay

MAPPER = ConversationMapper(JSONBytesTranscoder())


class LiveTurn:
    """The frames of a turn as its process sends them, and its story as in the log."""

    def __init__(self, *, queued: bool = False) -> None:
        self.story = Story()
        self.sent: list[Frame] = []
        self._answer: MessageAdded | None = None
        self.story.ask("First")
        if queued:
            self._begin(self.story.queue("Why?")[-1])
            self.story.complete()
            self._start(*self.story.start_next()[-2:])
        else:
            self.story.complete()
            question, started = self.story.ask("Why?")
            self._begin(started)
            self._start(question, started)

    def stream(self, block_type: StreamedBlock, *chunks: str) -> None:
        for words in chunks:
            self.sent += self._frames.chunk(block_type, words)[1]
            self.story.stream(words, block_type=block_type)

    def call_tools(self, *names: str) -> None:
        said, suspended = self.story.call_tools(*names, usage=usage(), time_to_first_token_ms=1.5)
        assert isinstance(said, MessageAdded) and isinstance(suspended, TurnSuspended)
        self._answer = said
        self.sent += self._frames.suspend(suspended, said)

    def give_results(self) -> None:
        _, resumed = self.story.give_results()
        assert isinstance(resumed, TurnResumed)
        self._frames.resume(resumed)

    def end(self, how: str, words: str = "") -> None:
        """End the turn as one of the methods of a story does."""
        events = getattr(self.story, how)(words)
        said = [event for event in events if isinstance(event, MessageAdded) and event.role == "assistant"]
        assert isinstance(events[-1], TurnEnded)
        self.sent += self._frames.end(events[-1], said[0] if said else self._answer)

    def replayed(self) -> list[Frame]:
        """Return the frames of the turn, replayed from the log."""
        replay = TurnReplay(self.key)
        stored = [MAPPER.to_domain_event(MAPPER.to_stored_event(event)) for event in self.story.events]  # pyright: ignore
        return replay.take([Recorded(position, event) for position, event in enumerate(stored, 1)])  # pyright: ignore

    def _begin(self, begun: Any) -> None:
        assert isinstance(begun, TurnBegun)
        self._frames = TurnFrames(begun)
        self.key = TurnKey(self.story.id, begun.turn_id, begun.originator_version)

    def _start(self, question: object, started: object) -> None:
        assert isinstance(question, MessageAdded) and isinstance(started, TurnStarted)
        self.sent.append(self._frames.start(started, question))


def wire(frames: list[Frame]) -> bytes:
    return b"".join(chain.from_iterable(map(turn_event, frames)))


def names(frames: list[Frame]) -> list[str]:
    return [frame.event for frame in frames]


def block_indexes(frames: list[Frame]) -> list[int]:
    """Return the block index of each frame that has one."""
    return [frame.data["block_index"] for frame in frames if "block_index" in frame.data]


def test_each_call_has_a_frame_before_the_turn_asks_for_the_results() -> None:
    turn = LiveTurn()
    turn.stream("text", "Let me", " see.")
    turn.call_tools("add", "find")
    assert names(turn.sent)[1:] == ["delta", "delta", "block.done", "tool_use", "tool_use", "turn.requires_action"]
    assert block_indexes(turn.sent) == [0, 0, 0, 1, 2]
    calls = [
        {"type": "tool_use", "id": "call_add_0", "name": "add", "input": {"n": 0}},
        {"type": "tool_use", "id": "call_find_1", "name": "find", "input": {"n": 1}},
    ]
    wire = [json.loads(frame.data_json) for frame in turn.sent]
    assert [data["tool_use"] for data in wire if "tool_use" in data] == calls
    last = turn.sent[-1]
    assert (wire[-1]["tool_uses"], last.pauses, last.terminal) == (calls, True, False)


def test_only_the_frame_that_asks_for_results_pauses_a_turn() -> None:
    turn = LiveTurn()
    turn.stream("text", "Hm")
    turn.call_tools("add")
    turn.give_results()
    turn.end("complete", "Four.")
    assert [frame.event for frame in turn.sent if frame.pauses] == ["turn.requires_action"]
    assert [frame.event for frame in turn.sent if frame.terminal] == ["turn.completed"]


def test_the_numbers_of_blocks_and_frames_continue_after_results() -> None:
    turn = LiveTurn()
    turn.stream("reasoning", "Hm")
    turn.stream("text", "Let me see.")
    turn.call_tools("add", "find")
    turn.give_results()
    turn.stream("text", "Four", ".")
    turn.call_tools("add")
    turn.give_results()
    turn.stream("text", "Five.")
    turn.end("complete", "Five.")
    assert block_indexes(turn.sent) == [0, 0, 1, 1, 2, 3, 4, 4, 4, 5, 6, 6]
    assert [frame.seq for frame in turn.sent] == list(range(1, len(turn.sent) + 1))
    assert [frame.data["delta_index"] for frame in turn.sent if frame.event == "delta"] == [0, 0, 0, 1, 0]


def test_calls_without_text_before_them_are_the_first_blocks() -> None:
    turn = LiveTurn()
    turn.call_tools("add", "find")
    turn.give_results()
    turn.stream("text", "Four.")
    assert block_indexes(turn.sent) == [0, 1, 2]


def test_the_content_so_far_begins_after_the_last_results() -> None:
    turn = LiveTurn()
    turn.stream("text", "Let me see.")
    turn.call_tools("add")
    replay = TurnReplay(turn.key)
    replay.take([Recorded(position, event) for position, event in enumerate(turn.story.events, 1)])
    assert (replay.content(), replay.waits, replay.ended) == ((), True, None)
    turn.give_results()
    turn.stream("text", "Four.")
    replay = TurnReplay(turn.key)
    replay.take([Recorded(position, event) for position, event in enumerate(turn.story.events, 1)])
    assert [block.model_dump() for block in replay.content()] == [{"type": "text", "text": "Four."}]
    assert not replay.waits


def test_a_cancelled_suspended_turn_ends_with_its_calls_as_its_message() -> None:
    turn = LiveTurn()
    turn.stream("text", "Let me see.")
    turn.call_tools("add")
    turn.end("cancel")
    last = turn.sent[-1]
    assert (last.event, last.data["turn"]["status"]) == ("turn.cancelled", "cancelled")
    assert last.data["turn"]["usage"]["input_tokens"] == 10
    assert (last.data["turn"]["duration_ms"], last.data["turn"]["time_to_first_token_ms"]) == (40.0, 1.5)
    assert last.data["message"]["id"] == str(turn.story.messages()[-2].message_id)
    assert wire(turn.replayed()) == wire(turn.sent)


def test_a_queued_turn_sends_no_frames_until_it_starts() -> None:
    turn = LiveTurn(queued=True)
    *waited, started = turn.story.events
    replay = TurnReplay(turn.key)
    assert replay.take([Recorded(position, event) for position, event in enumerate(waited, 1)]) == []
    assert (replay.started, replay.next_seq) == (None, 1)
    assert wire(replay.take([Recorded(started.originator_version, started)])) == wire(turn.sent)
    assert (replay.started, replay.next_seq) == (started, 2)


def test_another_answer_begins_with_the_question_that_it_answers() -> None:
    story = Story()
    story.ask("Why?")
    story.complete("One")
    question = story.messages()[0]
    started = story.ask_again(question)[-1]
    assert isinstance(started, TurnStarted)
    story.complete("Two")
    replay = TurnReplay(TurnKey(story.id, started.turn_id, started.originator_version), question)
    first, last = replay.take([Recorded(position, event) for position, event in enumerate(story.events, 1)])
    assert first.data["user_message"]["id"] == str(question.message_id)
    assert (last.event, last.data["message"]["in_reply_to"]) == ("turn.completed", str(question.message_id))


def test_a_cancelled_queued_turn_has_one_frame() -> None:
    story = Story()
    story.ask()
    (queued,) = story.queue()
    (cancelled,) = story.cancel_queued(story.state.queue[0].id)
    story.complete()
    assert isinstance(queued, TurnBegun) and isinstance(cancelled, TurnEnded)
    key = TurnKey(story.id, queued.turn_id, queued.originator_version)
    replay = TurnReplay(key)
    (frame,) = replay.take([Recorded(position, event) for position, event in enumerate(story.events, 1)])
    assert (frame.seq, frame.event, frame.terminal) == (1, "turn.cancelled", True)
    assert (frame.data["turn"]["status"], frame.data["turn"]["started_at"]) == ("cancelled", None)
    assert (frame.data["message"], frame.data["error"]) == (None, None)
    assert frame == TurnFrames(queued).end(cancelled, None)[0]


spoken = st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), st.text("ab ü\n", min_size=1)), max_size=4)
calling = st.lists(st.tuples(spoken, st.lists(st.sampled_from(["add", "find"]), min_size=1, max_size=2)), max_size=3)
ending = st.sampled_from(["complete", "fail", "cancel"])


@settings(max_examples=40)
@given(calling=calling, last=spoken, how=ending, waits=st.booleans(), queued=st.booleans())
def test_a_queued_or_suspended_turn_replays_as_it_was_live(
    calling: list[tuple[list[Any], list[str]]], last: list[Any], how: str, waits: bool, queued: bool
) -> None:
    turn = LiveTurn(queued=queued)
    for place, (words, tools) in enumerate(calling):
        for block_type, text in words:
            turn.stream(block_type, text)
        turn.call_tools(*tools)
        turn.story.rename(title=str(place))
        if waits and place == len(calling) - 1:
            break
        turn.give_results()
    if turn.story.state.turn and turn.story.state.turn.waiting:
        turn.end("cancel")
    else:
        for block_type, text in last:
            turn.stream(block_type, text)
        turn.end(how, "".join(text for _, text in last))
    assert wire(turn.replayed()) == wire(turn.sent)
    assert [frame.seq for frame in turn.sent] == list(range(1, len(turn.sent) + 1))
    indexes = block_indexes(turn.sent)
    assert indexes == sorted(indexes)
    assert set(indexes) == set(range(len(set(indexes))))
