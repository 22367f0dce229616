"""Any commands in any order leave a consistent conversation."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.content import ToolResultBlock, ToolUseBlock
from domain.conversation import ConversationSnapshot
from domain.decisions import turn_starts
from domain.decisions.conversations import Events
from domain.errors import DomainError
from domain.events import (
    ConversationEvent,
    MessageAdded,
    StreamDelta,
    TurnBegun,
    TurnEnded,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from tests.support.histories.builders import Story, folded, some_id, usage
from tests.support.naive_views.history import naive_history
from tests.support.naive_views.listing import naive_listing

T = TypeVar("T")


class AnyStory(Story):
    """A story whose steps may be taken at any time. `chance` chooses their subject."""

    chance = 0

    @property
    def turn_id(self) -> UUID:
        """Return any turn of the story, mostly the active one."""
        if self.state.turn is not None and self.chance % 4:
            return self.state.turn.id
        return self.one_of([event.turn_id for event in self.events if isinstance(event, TurnBegun)] or [some_id()])

    def start_next(self, **settings: Any) -> Events:
        """Try to start any turn that was ever queued, mostly the next one."""
        queued = [event for event in self.events if isinstance(event, TurnQueued)]
        if not queued:
            return []
        first = self.state.queue[0].id if self.state.queue and self.chance % 4 else self.one_of(queued).turn_id
        chosen = next(event for event in queued if event.turn_id == first)
        superseded = self.superseded(chosen.from_version) if chosen.from_version else None
        resolved = turn_starts.settings_of(chosen)._replace(**settings)
        events = turn_starts.start_queued_turn(self.state, self.origin(), chosen, some_id(), resolved, superseded)
        return self._keep(events)

    def one_of(self, things: Sequence[T]) -> T:
        return things[self.chance % len(things)]

    def place(self) -> int:
        """Return the version of a message that is neither deleted nor superseded.

        Without one, return the first version after the start.
        """
        return self.one_of([row["version"] for row in self.history() if row["status"] == "completed"] or [2])

    def history(self) -> list[dict[str, Any]]:
        return [row for row in naive_history(self.events) if row["status"] != "streaming"]

    def delete_any(self, status: str) -> Events:
        there = [row["message_id"] for row in self.history() if row["status"] == status]
        return self.unsay(self.one_of(there), superseded=status == "superseded") if there else []

    def ask_any_again(self) -> Events:
        left = {row["message_id"] for row in self.history() if row["status"] == "completed"}
        questions = [said for said in self.messages() if said.role == "user" and said.message_id in left]
        return self.ask_again(self.one_of(questions)) if questions else []


CALLS = tuple(ToolUseBlock(id=name, name=name, input={}) for name in ("f", "g", "f"))
RESULTS = tuple(ToolResultBlock(tool_use_id=name, content="") for name in ("f", "g", "h"))
COMMANDS: dict[str, Callable[[AnyStory], object]] = {
    "ask": lambda story: story.ask(),
    "ask instead": lambda story: story.ask(replacing=story.place()),
    "ask again": lambda story: story.ask_any_again(),
    "queue": lambda story: story.queue(),
    "queue ahead": lambda story: story.queue(ahead=True),
    "queue to replace": lambda story: story.queue(replacing=story.place()),
    "start next": lambda story: story.start_next(),
    "stream": lambda story: story.stream("a", "b"),
    "complete": lambda story: story.complete(usage=usage(), duration_ms=1.5),
    "call a tool": lambda story: story.call_tools("add", usage=usage()),
    "call tools": lambda story: story.call_tools("add", "add", words="Let me see."),
    "give results": lambda story: story.give_results(),
    "fail": lambda story: story.fail("Be"),
    "cancel": lambda story: story.cancel("Be"),
    "add a message": lambda story: story.say(),
    "add a message of the model": lambda story: story.say(role="assistant"),
    "record calls": lambda story: story.say(role="assistant", content=CALLS[: story.chance % 3 + 1]),
    "record results": lambda story: story.say(role="tool", content=RESULTS[: story.chance % 3 + 1]),
    "add a message of the system": lambda story: story.say(role="system"),
    "delete a message": lambda story: story.delete_any("completed"),
    "delete a superseded message": lambda story: story.delete_any("superseded"),
    "rename": lambda story: story.rename(title=str(story.chance)),
}


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(COMMANDS)), st.integers(0, 99)), min_size=20, max_size=40), st.booleans()
)
def test_any_commands_leave_a_consistent_conversation(wanted: list[tuple[str, int]], deleted: bool) -> None:
    story = AnyStory()
    for name, story.chance in wanted:
        with suppress(DomainError):
            COMMANDS[name](story)
        check_state(story)
    if deleted:
        story.delete()
        check_state(story)
    check_turns(story.events, all_ended=deleted)
    check_calls(story.events)


def check_state(story: Story) -> None:
    """Compare the state with a plain reading of the events and with its snapshot."""
    state = story.state
    assert [event.originator_version for event in story.events] == list(range(1, len(story.events) + 1))
    assert ConversationSnapshot.take(state).restore() == state == folded(story.events)
    (plain,) = naive_listing(story.events)
    assert (state.message_count, state.last_message_at) == (plain["message_count"], plain["last_message_at"])
    assert (state.turn.id if state.turn else None) == plain["active_turn_id"]
    assert (state.turn is not None and state.turn.waiting) == plain["waiting"]
    assert [turn.id for turn in state.queue] == plain["queued"]


def check_turns(events: Sequence[ConversationEvent], *, all_ended: bool) -> None:
    """Check that turns run one at a time, end once, and add nothing after their end."""
    active: UUID | None = None
    waits = False
    queue: list[UUID] = []
    ended: set[UUID] = set()
    for event in events:
        if isinstance(event, TurnQueued):
            queue.insert(0 if event.ahead else len(queue), event.turn_id)
        elif isinstance(event, TurnStarted):
            assert active is None
            assert event.turn_id not in ended
            if queue:
                assert event.turn_id == queue.pop(0)
            active, waits = event.turn_id, False
        elif isinstance(event, StreamDelta):
            assert (event.turn_id, waits) == (active, False)
        elif isinstance(event, TurnSuspended | TurnResumed):
            assert (event.turn_id, waits) == (active, isinstance(event, TurnResumed))
            waits = not waits
        elif isinstance(event, TurnEnded):
            assert event.turn_id not in ended
            ended.add(event.turn_id)
            if event.turn_id in queue:
                queue.remove(event.turn_id)
            else:
                assert event.turn_id == active
                active = None
    assert not (all_ended and (active or queue))


def check_calls(events: Sequence[ConversationEvent]) -> None:
    """Check that every call has a result before the next user message."""
    unanswered: Counter[str] = Counter()
    for event in events:
        if not isinstance(event, MessageAdded):
            continue
        assert not (event.role == "user" and unanswered), event
        for block in event.content:
            if isinstance(block, ToolUseBlock):
                unanswered[block.id] += 1
            elif isinstance(block, ToolResultBlock):
                unanswered.pop(block.tool_use_id, None)
