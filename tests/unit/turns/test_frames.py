"""The frames of a turn: the same live and replayed, and numbered without a gap."""

from itertools import chain
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.sse import turn_event
from domain.content import Content, ReasoningBlock, TextBlock
from domain.decisions.running_turns import complete_turn, record_delta
from domain.events import ConversationEvent, MessageAdded, StreamDelta, StreamedBlock, TurnCompleted, TurnEnded
from eventlog.mapper import ConversationMapper, JSONBytesTranscoder, Recorded
from tests.support.histories.builders import Story, answer, origin, turn_of, usage
from turns.frames.frames import Chunk, Frame, TurnFrames
from turns.frames.replay import TurnKey, TurnReplay

TypedChunks = list[tuple[StreamedBlock, str]]


def story_with_a_turn() -> Story:
    story = Story()
    story.ask()
    return story


def begun(story: Story) -> tuple[TurnFrames, Frame]:
    """Return the frames of the only turn of a story, and its first frame."""
    question, started, _ = turn_of(story.events)
    frames = TurnFrames(started)
    return frames, frames.start(started, question)


def live(story: Story, chunks: TypedChunks) -> tuple[TurnFrames, list[Chunk], list[Frame]]:
    """Return the frames of the only turn, its placed chunks, and the sent frames.

    The frames up to that of the last chunk are sent.
    """
    frames, first = begun(story)
    placed, sent = spoken(frames, chunks)
    return frames, placed, [first, *sent]


def spoken(frames: TurnFrames, chunks: TypedChunks) -> tuple[list[Chunk], list[Frame]]:
    """Return the chunks with their places, and their frames."""
    sent, placed = list[Frame](), list[Chunk]()
    for block_type, words in chunks:
        chunk, further = frames.chunk(block_type, words)
        placed.append(chunk)
        sent += further
    return placed, sent


def delta_of(run: list[Chunk]) -> dict[str, Any]:
    first = run[0]
    return {
        "first_seq": first.seq,
        "block_index": first.block_index,
        "block_type": first.block_type,
        "first_delta_index": first.delta_index,
        "chunks": tuple(chunk.text for chunk in run),
    }


def recorded(story: Story, deltas: list[dict[str, Any]], content: Content) -> list[ConversationEvent]:
    """Return the events of a story with these deltas and the answer, as the log does."""
    by = origin()
    state = story.state
    events = list(story.events)
    for fields in deltas:
        events += record_delta(state, by, story.turn_id, **fields)
        state = state.at_version(state.version + 1)
    said = answer("", content=content, usage=usage(), duration_ms=0.1)
    events += complete_turn(state, by, story.turn_id, said)
    mapper = ConversationMapper(JSONBytesTranscoder())
    return [mapper.to_domain_event(mapper.to_stored_event(event)) for event in events]  # pyright: ignore


def ending(events: list[ConversationEvent]) -> tuple[TurnEnded, MessageAdded | None]:
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    message = events[-2]
    return ended, message if isinstance(message, MessageAdded) else None


def wire(frames: list[Frame]) -> bytes:
    return b"".join(chain.from_iterable(map(turn_event, frames)))


def names(frames: list[Frame]) -> list[str]:
    return [frame.event for frame in frames]


def test_the_first_frame_has_the_question_the_id_of_the_answer_and_the_model() -> None:
    story = story_with_a_turn()
    _, frame = begun(story)
    data = frame.data
    question, started, _ = turn_of(story.events)
    assert (frame.seq, frame.event, frame.terminal) == (1, "turn.started", False)
    assert data["user_message"]["id"] == str(question.message_id)
    assert (data["message_id"], data["model"], data["seq"]) == (str(started.message_id), "turnlog/demo", 1)
    assert (data["conversation_id"], data["turn_id"]) == (str(story.id), str(story.turn_id))


def test_each_chunk_is_one_delta_with_its_place_in_its_block() -> None:
    _, _, frames = live(story_with_a_turn(), [("text", "Be"), ("text", "cause")])
    places = [(f.data["block_index"], f.data["delta_index"], f.data["text"]) for f in frames[1:]]
    assert places == [(0, 0, "Be"), (0, 1, "cause")]


def test_a_block_is_done_when_another_begins_or_the_turn_ends() -> None:
    story = story_with_a_turn()
    frames, _, sent = live(story, [("reasoning", "Hm"), ("text", "Yes"), ("text", "!")])
    sent += frames.end(*ending(recorded(story, [], frames.content())))
    assert names(sent) == ["turn.started", "delta", "block.done", "delta", "delta", "block.done", "turn.completed"]
    done = [frame.data["block"] for frame in sent if frame.event == "block.done"]
    assert done == [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Yes!"}]
    assert [frame.terminal for frame in sent] == [False] * 6 + [True]


def test_a_block_type_that_returns_begins_a_new_block() -> None:
    frames, placed, _ = live(story_with_a_turn(), [("text", "a"), ("reasoning", "b"), ("text", "c")])
    assert [(chunk.block_index, chunk.delta_index) for chunk in placed] == [(0, 0), (1, 0), (2, 0)]
    assert frames.content() == (TextBlock(text="a"), ReasoningBlock(text="b"), TextBlock(text="c"))


def test_a_turn_without_text_ends_without_a_block() -> None:
    story = story_with_a_turn()
    frames, _, sent = live(story, [])
    sent += frames.end(*ending(recorded(story, [], ())))
    assert names(sent) == ["turn.started", "turn.completed"]
    assert sent[-1].data["message"] is None
    assert frames.content() == ()


def test_a_failed_turn_ends_with_its_text_and_its_error() -> None:
    story = story_with_a_turn()
    frames, _, _ = live(story, [("text", "Be")])
    said, failed = story.fail("Be", reason="model_timeout", detail="Too slow.")
    assert isinstance(said, MessageAdded) and isinstance(failed, TurnEnded)
    done, last = frames.end(failed, said)
    assert (done.event, last.event, last.terminal) == ("block.done", "turn.failed", True)
    assert last.data["error"] == {"code": "model_timeout", "detail": "Too slow."}
    assert last.data["turn"]["status"] == "failed"
    assert last.data["message"]["status"] == "interrupted"


def test_a_cancelled_turn_ends_without_an_error() -> None:
    story = story_with_a_turn()
    frames, _ = begun(story)
    (cancelled,) = story.cancel()
    assert isinstance(cancelled, TurnEnded)
    (last,) = frames.end(cancelled, None)
    assert (last.event, last.data["error"], last.data["turn"]["status"]) == ("turn.cancelled", None, "cancelled")


def test_a_frame_is_encoded_as_one_line_of_json_for_any_text() -> None:
    _, _, (_, frame) = live(story_with_a_turn(), [("text", "line\none\r\ntwo\u2028three")])
    lines = b"".join(turn_event(frame)).decode().split("\n")
    assert lines[:2] == ["id: 2", "event: delta"]
    assert lines[2].startswith("data: {") and lines[3:] == ["", ""]
    assert orjson.loads(lines[2][6:])["text"] == "line\none\r\ntwo\u2028three"


@settings(max_examples=60)
@given(
    chunks=st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), st.text(min_size=1, max_size=5)), max_size=12),
    data=st.data(),
)
def test_a_turn_replays_as_it_was_live_for_any_split_into_deltas(chunks: TypedChunks, data: st.DataObject) -> None:
    chunks = [(block_type, words.replace("\0", " ")) for block_type, words in chunks]
    story = story_with_a_turn()
    frames, placed, sent = live(story, chunks)
    events = recorded(story, _split(placed, data), frames.content())
    sent += frames.end(*ending(events))

    replay = TurnReplay(TurnKey(story.id, story.turn_id, 1))
    replayed = replay.take([Recorded(position, event) for position, event in enumerate(events, 1)])

    assert wire(replayed) == wire(sent)
    assert [frame.seq for frame in sent] == list(range(1, len(sent) + 1))
    assert replay.content() == frames.content()
    assert isinstance(replay.ended, TurnCompleted)
    deltas = [event for event in events if isinstance(event, StreamDelta)]
    assert [words for delta in deltas for words in delta.chunks] == [words for _, words in chunks]


def _split(placed: list[Chunk], data: st.DataObject) -> list[dict[str, Any]]:
    """Return the chunks as deltas, split at each new block and where `data` decides."""
    runs: list[list[Chunk]] = []
    for chunk in placed:
        if runs and runs[-1][-1].block_index == chunk.block_index and data.draw(st.booleans()):
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return [delta_of(run) for run in runs]
