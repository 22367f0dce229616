"""The scenes of a conversation: what was seen, and when."""

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given

from cli.reading.playback import Playback, Scene
from cli.reading.transcript import Transcript
from domain.content import ContextBlock, ImageBlock, ReasoningBlock, TextBlock
from domain.events import CONVERSATION_EVENTS, ConversationEvent, StreamDelta
from eventlog.mapper import Recorded, UnknownEvent
from tests.support.histories.builders import BEGINNING, Story, one_of_each, text, usage
from tests.support.histories.histories import histories
from turns.frames.delta_buffer import FLUSH_INTERVAL_S


def scenes_of(events: Sequence[ConversationEvent | UnknownEvent]) -> list[Scene]:
    """Return the scenes of events at the positions from 1."""
    playback = Playback()
    return [scene for position, event in enumerate(events, 1) for scene in playback.scenes(Recorded(position, event))]


def transcript(events: Sequence[ConversationEvent | UnknownEvent]) -> list[str]:
    """Return the lines of the events without a terminal."""
    parts: list[str] = []
    writer = Transcript(parts.append, lambda: None, colours=False)
    for scene in scenes_of(events):
        writer.show(scene.pieces)
    writer.end()
    return "".join(parts).splitlines()


def after_the_start(story: Story) -> list[str]:
    """Return the lines of a story after those of its first event."""
    return transcript(story.events)[3:]


def test_a_conversation_begins_with_its_owner_its_agent_and_its_title() -> None:
    story = Story(title="Grüße", agent_id="support")
    assert transcript(story.events) == [
        f"Conversation {story.id}",
        "  2026-01-02 03:04:06Z  of alice, agent support, started by user:alice",
        "  Grüße",
    ]
    assert transcript(Story().events)[2] == "  without a title"


def test_a_streamed_answer_is_shown_once() -> None:
    story = Story()
    story.ask("Why?")
    story.stream("Be", "cause", ".")
    story.complete("Because.", usage=usage(), finish_reason="stop", duration_ms=1234.0)
    assert after_the_start(story) == [
        "user  2026-01-02 03:04:07Z  user:alice",
        "  Why?",
        "assistant  2026-01-02 03:04:07Z  turnlog/demo",
        "  Because.",
        "  completed (stop), 10 + 5 tokens, 1.2 s",
    ]


def test_an_answer_that_was_not_streamed_is_shown_from_its_message() -> None:
    story = Story()
    story.ask("Why?")
    story.complete("Because.")
    assert after_the_start(story)[3:] == ["  Because.", "  completed (stop)"]


def test_what_was_recorded_beyond_the_stream_is_added() -> None:
    story = Story()
    story.ask("Why?")
    story.stream("Be")
    story.complete("Because.")
    assert after_the_start(story)[3:4] == ["  Because."]
    story.ask("Why?")
    story.stream("No")
    story.complete("Because.")
    assert after_the_start(story)[-4:] == ["  No", "  recorded as:", "  Because.", "  completed (stop)"]


def test_reasoning_and_text_are_on_lines_of_their_own() -> None:
    story = Story()
    story.ask("Why?")
    story.stream("Let me", " think", block_type="reasoning")
    story.stream("Because.", block_index=1)
    thought = ReasoningBlock(text="Let me think")
    story.complete("Because.", content=(thought, TextBlock(text="Because.")))
    assert after_the_start(story)[3:5] == ["  Let me think", "  Because."]
    looks = [piece.look for scene in scenes_of(story.events) for piece in scene.pieces if "think" in piece.text]
    assert looks == ["thought"]


def test_a_cancelled_turn_keeps_its_text_and_a_failed_one_says_why() -> None:
    story = Story()
    story.ask("Why?")
    story.stream("Be")
    story.cancel("Be", duration_ms=80.0)
    assert after_the_start(story)[3:] == ["  Be", "  cancelled by user:alice, 0.1 s"]
    story.ask("Why?")
    story.fail(reason="model_timeout", detail="The model was silent.")
    assert after_the_start(story)[-1] == "  failed (model_timeout): The model was silent."


def test_tool_calls_and_their_results_are_shown() -> None:
    story = Story()
    story.ask("How many?")
    story.stream("Let me see.")
    story.call_tools("count", words="Let me see.")
    story.give_results("42")
    story.stream("42")
    story.complete("42")
    assert after_the_start(story)[3:] == [
        "  Let me see.",
        '  → count({"n":0})',
        "  waits for tool results",
        "tool  2026-01-02 03:04:10Z  user:alice",
        "  ← 42",
        "assistant  2026-01-02 03:04:10Z  turnlog/demo",
        "  42",
        "  completed (stop)",
    ]


def test_a_replaced_answer_is_played_and_then_struck() -> None:
    story = Story()
    story.ask("Why?")
    story.stream("First.")
    story.complete("First.")
    question = next(message for message in story.messages() if message.role == "user")
    story.ask_again(question)
    story.stream("Second.")
    story.complete("Second.")
    assert after_the_start(story)[3:] == [
        "  First.",
        "  completed (stop)",
        "  2026-01-02 03:04:10Z  user:alice replaced 1 message",
        "  ~~assistant: First.~~",
        "assistant  2026-01-02 03:04:10Z  turnlog/demo",
        "  Second.",
        "  completed (stop)",
    ]


def test_an_edited_question_is_struck_with_all_after_it_and_only_once() -> None:
    story = Story()
    version = story.ask("One\ntwo")[0].originator_version
    story.complete("First.")
    for words in ("Edited", "Edited again"):
        story.ask(words, replacing=version)
        story.complete("Then.")
    assert [line for line in after_the_start(story) if "~~" in line] == [
        "  ~~user: One~~",
        "  ~~assistant: First.~~",
        "  ~~user: Edited~~",
        "  ~~assistant: Then.~~",
    ]


def test_a_deleted_message_is_struck() -> None:
    story = Story()
    message = story.say("Oops")[0]
    story.unsay(message.message_id)  # pyright: ignore[reportAttributeAccessIssue]
    assert after_the_start(story)[2:] == [
        "  2026-01-02 03:04:08Z  user:alice deleted a message",
        "  ~~user: Oops~~",
    ]


def test_a_queued_turn_shows_its_message_and_its_cancel() -> None:
    story = Story()
    story.ask("First")
    story.queue("Then")
    story.cancel_queued(story.state.queue[0].id)
    assert after_the_start(story)[3:] == [
        "user, queued  2026-01-02 03:04:08Z  user:alice",
        "  Then",
        "  2026-01-02 03:04:09Z  user:alice cancelled a queued turn",
    ]


def test_a_new_title_and_the_end_are_shown() -> None:
    story = Story(title="Old")
    story.rename(title="New")
    story.rename(metadata={"a": 1})
    story.delete()
    assert after_the_start(story) == [
        "  2026-01-02 03:04:07Z  user:alice changed the title",
        "  New",
        "  2026-01-02 03:04:08Z  user:alice changed the metadata",
        "  2026-01-02 03:04:09Z  user:alice deleted the conversation",
    ]


def test_images_and_context_are_named() -> None:
    story = Story()
    image = ImageBlock(url="https://example.com/cat.png")
    story.say(content=(*text("Look"), image, ContextBlock(data={"page": 2})))
    assert after_the_start(story)[1:] == ["  Look", "  [image https://example.com/cat.png]", '  [context {"page":2}]']


def test_an_event_of_a_newer_release_is_named() -> None:
    story = Story()
    unknown = UnknownEvent(
        originator_id=story.id,
        originator_version=2,
        timestamp=BEGINNING,
        actor="user:alice",
        aggregate="conversation",
        stored_type="MessageSung",
        reason="",
    )
    lines = transcript([*story.events, unknown])
    assert lines[3:] == ["  2026-01-02 03:04:05Z  an event that this release does not know (MessageSung)"]


def test_each_chunk_is_a_scene_within_the_interval_before_its_recording() -> None:
    story = Story()
    story.ask()
    story.stream("a", "b", "c", "d")
    delta = story.events[-1]
    *_, first, second, third, last = scenes_of(story.events)
    assert [scene.pieces[-1].text for scene in (first, second, third, last)] == ["a", "b", "c", "d"]
    assert last.at == delta.timestamp
    assert last.at - first.at == 3 * timedelta(seconds=FLUSH_INTERVAL_S) / 4
    assert {scene.position for scene in (first, second, third, last)} == {len(story.events)}


def test_chunks_never_come_before_the_event_before_them() -> None:
    story = Story()
    started = story.ask()[-1]
    delta = story.stream("a", "b")[0]
    assert isinstance(delta, StreamDelta)
    soon = delta.model_copy(update={"timestamp": started.timestamp + timedelta(milliseconds=10)})
    *_, first, last = scenes_of([*story.events[:-1], soon])
    assert (first.at - started.timestamp, last.at) == (timedelta(milliseconds=5), soon.timestamp)


def test_only_the_time_between_turns_is_idle() -> None:
    story = Story()
    story.ask()
    story.stream("a")
    story.call_tools("add")
    story.give_results()
    story.complete()
    story.say()
    # started, question, start | chunk, calls, wait | results, resumption | answer, end | message
    assert [scene.idle for scene in scenes_of(story.events)] == [
        *[True, True, True],
        *[False, False, False],
        *[True, True],
        *[False, False],
        True,
    ]


def test_every_event_of_a_conversation_can_be_played() -> None:
    events = one_of_each()
    assert {type(event) for event in events} == CONVERSATION_EVENTS
    assert len(scenes_of(events)) >= len(events)


@given(histories(most_steps=30))
def test_any_history_is_played_in_its_order(log: list[ConversationEvent]) -> None:
    for id_ in {event.originator_id for event in log}:
        events = [event for event in log if event.originator_id == id_]
        scenes = scenes_of(events)
        assert [scene.at for scene in scenes] == sorted(scene.at for scene in scenes)
        assert {scene.position for scene in scenes} == set(range(1, len(events) + 1))
