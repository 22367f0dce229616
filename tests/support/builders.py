"""Valid conversations, as short as a test wants them: told by the decisions themselves, a second for each step."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from domain import decisions
from domain.content import Content, Role, TextBlock
from domain.conversation import Conversation, fold
from domain.decisions import Answer, Draft, Events, Origin, TurnSettings
from domain.events import ConversationEvent, MessageAdded, StreamDelta, StreamedBlock, TurnStarted
from domain.usage import Usage
from eventlog.clock import new_id

OWNER = "alice"
ENCODING = "words"
MODEL = "turnlog/demo"
BEGINNING = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)

some_id = new_id


def origin(actor: str = OWNER, at: datetime = BEGINNING, request_id: str | None = "req-1") -> Origin:
    return Origin(actor, at, request_id)


def text(words: str = "Hello") -> Content:
    return (TextBlock(text=words),)


def draft(words: str = "Hello", role: Role = "user", **changes: Any) -> Draft:
    return Draft(some_id(), role, text(words), len(words.split()), ENCODING)._replace(**changes)


def answer(words: str = "Hi there", **changes: Any) -> Answer:
    return Answer(text(words) if words else (), len(words.split()), ENCODING)._replace(**changes)


def usage(**changes: Any) -> Usage:
    return Usage(input_tokens=10, output_tokens=5).model_copy(update=changes)


def folded(events: list[ConversationEvent]) -> Conversation:
    """Return the state after `events`, which begin a conversation."""
    state = fold(None, events)
    assert state is not None
    return state


class Story:
    """A conversation in the making: each step decides on the state so far, keeps its events and returns them."""

    def __init__(self, *, owner: str = OWNER, begins: datetime = BEGINNING, **started: Any) -> None:
        self.id = some_id()
        self.events: list[ConversationEvent] = []
        self._owner = owner
        self._now = begins
        self._frames = 0
        self._state: Conversation | None = None
        self._keep(decisions.start_conversation(self.id, self.origin(), **started))

    @property
    def state(self) -> Conversation:
        assert self._state is not None
        return self._state

    def origin(self) -> Origin:
        """Return the owner's origin, a second after the one before."""
        self._now += timedelta(seconds=1)
        return Origin(self._owner, self._now, "req-1")

    def say(self, words: str = "Hello", role: Role = "user", **changes: Any) -> Events:
        return self._keep(decisions.add_message(self.state, self.origin(), draft(words, role, **changes)))

    def rename(self, **changes: Any) -> Events:
        return self._keep(decisions.update_conversation(self.state, self.origin(), changes))

    def ask(self, words: str = "Why?", **settings: Any) -> Events:
        self._frames = 1
        chosen = TurnSettings(MODEL, **settings)
        asked = decisions.start_turn(
            self.state, self.origin(), draft(words), chosen, turn_id=some_id(), answer_id=some_id()
        )
        return self._keep(asked)

    def stream(self, *chunks: str, block_index: int = 0, block_type: StreamedBlock = "text") -> Events:
        fields = {
            "first_seq": self._frames + 1,
            "block_index": block_index,
            "block_type": block_type,
            "first_delta_index": 0,
            "chunks": chunks,
        }
        self._frames += len(chunks)
        return self._keep(decisions.record_delta(self.state, self.origin(), self.turn_id, **fields))

    def complete(self, words: str = "Because.", **changes: Any) -> Events:
        said = answer(words, **changes)
        return self._keep(decisions.complete_turn(self.state, self.origin(), self.turn_id, said))

    def fail(
        self, words: str = "", reason: str = "model_error", detail: str = "The model broke.", **changes: Any
    ) -> Events:
        said = answer(words, **changes)
        return self._keep(
            decisions.fail_turn(self.state, self.origin(), self.turn_id, said, reason=reason, detail=detail)
        )

    def cancel(self, words: str = "", **changes: Any) -> Events:
        return self._keep(decisions.cancel_turn(self.state, self.origin(), self.turn_id, answer(words, **changes)))

    def unsay(self, message_id: UUID) -> Events:
        return self._keep(decisions.delete_message(self.state, self.origin(), message_id, exists=True))

    def delete(self) -> Events:
        return self._keep(decisions.delete_conversation(self.state, self.origin()))

    @property
    def turn_id(self) -> UUID:
        assert self.state.turn is not None
        return self.state.turn.id

    def messages(self) -> list[MessageAdded]:
        """Return everything that was ever said."""
        return [event for event in self.events if isinstance(event, MessageAdded)]

    def _keep(self, events: Events) -> Events:
        self._state = fold(self._state, events)
        self.events += events
        return events


def one_of_each() -> list[ConversationEvent]:
    """Return a conversation in which every type of event happens, with every field set somewhere."""
    story = Story(agent_id="support-1", title="Grüße", metadata={"plan": "pro", "n": 2**70})
    story.rename(title="Later", metadata={})
    story.unsay(story.say()[0].message_id)  # pyright: ignore[reportAttributeAccessIssue]
    story.ask(max_context_tokens=4000, temperature=0.5, max_output_tokens=100, metadata={"k": [1, None]})
    story.stream("Be", "cause")
    used = usage(cached_input_tokens=3, reasoning_tokens=1)
    story.complete("Because", usage=used, finish_reason="stop", time_to_first_token_ms=12.5, duration_ms=80.25)
    story.ask()
    story.fail("Hm", time_to_first_token_ms=12.5, duration_ms=30000.0)
    story.ask(generate=False)
    story.cancel("Well", time_to_first_token_ms=12.5, duration_ms=80.25)
    story.delete()
    return story.events


def turn_of(events: list[ConversationEvent]) -> tuple[MessageAdded, TurnStarted, list[StreamDelta]]:
    """Return the question, the start and the deltas of the only turn in `events`."""
    started = next(event for event in events if isinstance(event, TurnStarted))
    question = next(e for e in events if isinstance(e, MessageAdded) and e.message_id == started.user_message_id)
    return question, started, [event for event in events if isinstance(event, StreamDelta)]
