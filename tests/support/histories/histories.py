"""Possible histories of some conversations, for property tests."""

from collections.abc import Callable, Sequence
from decimal import Decimal

from hypothesis import strategies as st

from domain.content import ToolResultBlock, ToolUseBlock
from domain.events import ConversationEvent
from tests.support.histories.builders import BEGINNING, LONG_AGO, Story, usage
from tests.support.naive_views.context import naive_context
from tests.support.naive_views.history import naive_history


@st.composite
def histories(draw: st.DrawFn, most_steps: int = 40) -> list[ConversationEvent]:
    """Return the events of some valid conversations, interleaved as in a log."""
    log: list[ConversationEvent] = []
    stories: list[Story] = []
    for _ in range(draw(st.integers(1, most_steps))):
        if not stories or draw(st.integers(0, 9)) == 0:
            stories.append(_story(draw, len(stories)))
            log += stories[-1].events
        else:
            log += _step(draw, draw(st.sampled_from(stories)))
    return log


def _story(draw: st.DrawFn, number: int) -> Story:
    return Story(
        owner=draw(st.sampled_from(["alice", "bob"])),
        begins=draw(st.sampled_from([BEGINNING, BEGINNING.replace(hour=23, minute=59, second=57)])),
        agent_id=draw(st.none() | st.just("support")),
        title=draw(st.none() | st.text("aü%_\\ ", max_size=4)),
        metadata={"n": number},
    )


def _step(draw: st.DrawFn, story: Story) -> Sequence[ConversationEvent]:
    if story.state.deleted:
        return []
    words = draw(st.sampled_from(["one", "two words", "now three words"]))
    steps = _possible(draw, story, words)
    steps["rename"] = lambda: story.rename(title=words, metadata={"w": words})
    if draw(st.integers(0, 24)) == 7:
        return story.delete()
    # Half of the steps continue a running turn. With random steps alone few turns would end.
    onward = sorted(steps.keys() & ONWARD)
    chosen = onward if onward and draw(st.booleans()) else sorted(steps)
    return steps[draw(st.sampled_from(chosen))]()


ONWARD = {"complete", "complete in silence", "call a tool", "call tools at a price", "give results", "start next"}


Steps = dict[str, Callable[[], Sequence[ConversationEvent]]]


def _possible(draw: st.DrawFn, story: Story, words: str) -> Steps:
    turn, queue = story.state.turn, story.state.queue
    if turn and not turn.waiting:
        return {**_while_it_runs(draw, story, words), **_of_the_queue(draw, story, words)}
    if turn and queue:
        return {**_while_it_waits(story, words), **_of_the_queue(draw, story, words)}
    if turn:
        return {**_while_it_waits(story, words), **_to_begin(draw, story, words)}
    if queue:
        return {**_of_the_queue(draw, story, words), "start next": story.start_next}
    return {**_while_it_is_idle(draw, story, words), **_to_begin(draw, story, words)}


def _while_it_runs(draw: st.DrawFn, story: Story, words: str) -> Steps:
    return {
        "stream": lambda: story.stream(words, "!"),
        "think": lambda: story.stream(words, block_index=1, block_type="reasoning"),
        "complete": lambda: story.complete(words, usage=usage(), duration_ms=1.5),
        "complete at a price": lambda: story.complete(
            words, usage=usage(cached_input_tokens=3, cost_usd=Decimal("0.0012")), time_to_first_token_ms=0.5
        ),
        "complete in silence": lambda: story.complete(""),
        "call a tool": lambda: story.call_tools("add", words=draw(st.sampled_from(["", words]))),
        "call tools at a price": lambda: story.call_tools(
            "add", "find", usage=usage(cost_usd=Decimal("0.0003")), time_to_first_token_ms=0.25, timeout_s=60
        ),
        "fail": lambda: story.fail(draw(st.sampled_from(["", words]))),
        "cancel": lambda: story.cancel(draw(st.sampled_from(["", words]))),
    }


def _while_it_waits(story: Story, words: str) -> Steps:
    steps: Steps = {"give results": lambda: story.give_results(words), "cancel": story.cancel}
    if story.state.turn is not None and story.state.turn.results_due_at is not None:
        steps["time out"] = story.time_out
    return steps


def _of_the_queue(draw: st.DrawFn, story: Story, words: str) -> Steps:
    steps: Steps = {
        "queue": lambda: story.queue(words),
        "queue ahead": lambda: story.queue(words, ahead=True),
    }
    if places := _places(story):
        steps["queue to replace"] = lambda: story.queue(words, replacing=draw(st.sampled_from(places)))
    if queue := story.state.queue:
        steps["cancel a queued one"] = lambda: story.cancel_queued(draw(st.sampled_from(queue)).id)
    return steps


def _to_begin(draw: st.DrawFn, story: Story, words: str) -> Steps:
    """Return the steps of an idle conversation or one that waits for results."""
    steps: Steps = {"say": lambda: story.say(words), "ask": lambda: story.ask(words)}
    if places := _places(story):
        steps["ask instead"] = lambda: story.ask(words, replacing=draw(st.sampled_from(places)))
    if questions := [
        message for message in story.messages() if message.role == "user" and message.originator_version in places
    ]:
        steps["ask again"] = lambda: story.ask_again(draw(st.sampled_from(questions)))
    return steps


def _while_it_is_idle(draw: st.DrawFn, story: Story, words: str) -> Steps:
    calls = tuple(ToolUseBlock(id=name, name=name, input={}) for name in ("f", "g"))
    results = tuple(ToolResultBlock(tool_use_id=call.id, content=words) for call in calls)
    steps: Steps = {
        "say as another": lambda: story.say(words, draw(st.sampled_from(["assistant", "system"]))),
        "say for nothing": lambda: story.say(words, tokens=0),
        "say what was said before": lambda: story.say(words, said_at=LONG_AGO, model="gpt-4"),
        "record calls": lambda: story.say(role="assistant", content=calls),
        "record a result": lambda: story.say(role="tool", content=results[: draw(st.integers(1, 2))]),
    }
    there = sorted(row["message_id"] for row in naive_context(story.events))
    superseded = sorted(row["message_id"] for row in naive_history(story.events) if row["status"] == "superseded")
    if there:
        steps["unsay"] = lambda: story.unsay(draw(st.sampled_from(there)))
    if superseded:
        steps["unsay what was superseded"] = lambda: story.unsay(draw(st.sampled_from(superseded)), superseded=True)
    return steps


def _places(story: Story) -> list[int]:
    """Return the versions of messages that are neither deleted nor superseded."""
    return sorted(row["version"] for row in naive_context(story.events))
