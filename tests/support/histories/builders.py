"""Builders of valid conversations, made by the domain's decisions."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from domain.agent import ResolvedAgent, agent_aggregate_id
from domain.audit import AuditRead
from domain.content import Content, Role, TextBlock, ToolResultBlock, ToolUseBlock
from domain.conversation import Conversation, fold
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.conversations import Draft, Events, MessagePlace, Origin
from domain.decisions.running_turns import ModelAnswer
from domain.decisions.turn_starts import Question, Superseded, TurnIds, TurnSettings, settings_of
from domain.events import (
    ConversationEvent,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    StreamedBlock,
    TurnQueued,
    TurnStarted,
)
from domain.model_usage import Usage
from domain.tools import ToolDefinition
from eventlog.clock import new_id

OWNER = "alice"
ENCODING = "words"
MODEL = "turnlog/demo"
BEGINNING = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
LONG_AGO = datetime(2023, 11, 14, 22, 13, 20, 250000, UTC)

some_id = new_id
_AGENT_NUMBERS = count(1)  # the log takes each number once


def origin(owner_id: str = OWNER, at: datetime = BEGINNING, request_id: str | None = "req-1") -> Origin:
    return Origin(owner_id, f"user:{owner_id}", at, request_id)


def text(words: str = "Hello") -> Content:
    return (TextBlock(text=words),)


def draft(words: str = "Hello", role: Role = "user", **changes: Any) -> Draft:
    return Draft(some_id(), role, text(words), len(words.split()), ENCODING)._replace(**changes)


def answer(words: str = "Hi there", **changes: Any) -> ModelAnswer:
    return ModelAnswer(text(words) if words else (), len(words.split()), ENCODING)._replace(**changes)


TOOL = ToolDefinition(name="add", description="Adds.", input_schema={"type": "object"})
RESOLVED = ResolvedAgent(
    id=agent_aggregate_id(OWNER, "support-1"), label="support-1", version=2, system_prompt_sha256="0123456789abcdef" * 4
)


def turn_ids() -> TurnIds:
    return TurnIds(some_id(), some_id(), some_id())


def usage(**changes: Any) -> Usage:
    return Usage(input_tokens=10, output_tokens=5).model_copy(update=changes)


def folded(events: list[ConversationEvent]) -> Conversation:
    """Return the state after `events`, which start a conversation."""
    state = fold(None, events)
    assert state is not None
    return state


class Story:
    """A builder of one conversation.

    Each step makes a decision on the current state, keeps its events and returns them. A step takes one second.
    """

    def __init__(
        self, *, owner: str = OWNER, begins: datetime = BEGINNING, agent_number: int | None = None, **started: Any
    ) -> None:
        self.id = some_id()
        self.events: list[ConversationEvent] = []
        self._owner = owner
        self._now = begins
        self._frames = 0
        self._state: Conversation | None = None
        events = conversations.start_conversation(self.id, self.origin(), **started)
        self._keep(events if agent_number is None else conversations.numbered(events, agent_number))

    @property
    def state(self) -> Conversation:
        assert self._state is not None
        return self._state

    def origin(self) -> Origin:
        """Return the owner's origin, one second after the previous one."""
        self._now += timedelta(seconds=1)
        return origin(self._owner, self._now)

    def say(self, words: str = "Hello", role: Role = "user", **changes: Any) -> Events:
        return self._keep(
            conversations.add_message(self.state, self.origin(), draft(words, role, **changes), some_id())
        )

    def rename(self, **changes: Any) -> Events:
        return self._keep(conversations.update_conversation(self.state, self.origin(), changes))

    def ask(self, words: str = "Why?", *, replacing: int | None = None, **settings: Any) -> Events:
        """Start a turn.

        It supersedes the messages from the version `replacing` on.
        """
        self._frames = 1
        chosen = TurnSettings(MODEL, **settings)
        superseded = None if replacing is None else self.superseded(replacing)
        return self._keep(
            turn_starts.start_turn(self.state, self.origin(), draft(words), chosen, turn_ids(), superseded)
        )

    def ask_again(self, question: MessageAdded, **settings: Any) -> Events:
        """Start a turn that answers a question again."""
        self._frames = 1
        version = question.originator_version
        again = turn_starts.answer_again(
            self.state,
            self.origin(),
            Question(question.message_id, version),
            TurnSettings(MODEL, **settings),
            turn_ids(),
            self.superseded(version + 1),
        )
        return self._keep(again)

    def queue(
        self, words: str = "And then?", *, ahead: bool = False, replacing: int | None = None, **settings: Any
    ) -> Events:
        """Queue a turn.

        When it starts, it supersedes the messages from the version `replacing` on.
        """
        chosen = TurnSettings(MODEL, **settings)
        queued = turn_starts.queue_turn(
            self.state, self.origin(), draft(words), chosen, turn_ids(), from_version=replacing, ahead=ahead
        )
        return self._keep(queued)

    def start_next(self, **settings: Any) -> Events:
        """Start the first turn of the queue, with some settings that an agent gives."""
        self._frames = 1
        queued = self.events[self.state.queue[0].version - 1]
        assert isinstance(queued, TurnQueued)
        superseded = None if queued.from_version is None else self.superseded(queued.from_version)
        resolved = settings_of(queued)._replace(**settings)
        return self._keep(
            turn_starts.start_queued_turn(self.state, self.origin(), queued, some_id(), resolved, superseded)
        )

    def superseded(self, from_version: int) -> Superseded:
        """Return a version and the number of live messages from it on."""
        gone = {event.message_id for event in self.events if isinstance(event, MessageDeleted)}
        cuts = [event for event in self.events if isinstance(event, MessagesSuperseded)]
        left = [
            message
            for message in self.messages()
            if message.originator_version >= from_version
            and message.message_id not in gone
            and not any(cut.from_version <= message.originator_version < cut.originator_version for cut in cuts)
        ]
        return Superseded(from_version, len(left))

    def stream(self, *chunks: str, block_index: int = 0, block_type: StreamedBlock = "text") -> Events:
        fields = {
            "first_seq": self._frames + 1,
            "block_index": block_index,
            "block_type": block_type,
            "first_delta_index": 0,
            "chunks": chunks,
        }
        self._frames += len(chunks)
        return self._keep(running_turns.record_delta(self.state, self.origin(), self.turn_id, **fields))

    def complete(self, words: str = "Because.", **changes: Any) -> Events:
        reply = answer(words, **changes)
        return self._keep(running_turns.complete_turn(self.state, self.origin(), self.turn_id, reply))

    def call_tools(self, *names: str, words: str = "", timeout_s: float | None = None, **changes: Any) -> Events:
        """End the answer with a call of each tool, whose results are awaited for a time.

        A call's id consists of the tool's name and its index.
        """
        calls = tuple(
            ToolUseBlock(id=f"call_{name}_{index}", name=name, input={"n": index}) for index, name in enumerate(names)
        )
        reply = answer(words, finish_reason="tool_use", **{"duration_ms": 40.0, **changes})
        reply = reply._replace(content=(*reply.content, *calls))
        events = running_turns.complete_turn(self.state, self.origin(), self.turn_id, reply, timeout_s)
        self._frames += len(names) + 1
        return self._keep(events)

    def give_results(self, words: str = "42") -> Events:
        """Answer all open calls."""
        results = tuple(ToolResultBlock(tool_use_id=call, content=words) for call in self.state.open_calls)
        reply = draft(role="tool", content=results, tokens=len(results))
        return self._keep(running_turns.resume_turn(self.state, self.origin(), self.turn_id, reply, some_id()))

    def time_out(self) -> Events:
        """Let the wait for tool results end."""
        assert self.state.turn is not None and self.state.turn.results_due_at is not None
        self._now = max(self._now, self.state.turn.results_due_at)
        return self._keep(running_turns.time_out_turn(self.state, self.origin(), self.turn_id, some_id()))

    def fail(
        self, words: str = "", reason: str = "model_error", detail: str = "The model broke.", **changes: Any
    ) -> Events:
        reply = answer(words, **changes)
        return self._keep(
            running_turns.fail_turn(self.state, self.origin(), self.turn_id, reply, reason=reason, detail=detail)
        )

    def cancel(self, words: str = "", **changes: Any) -> Events:
        return self._keep(
            running_turns.cancel_turn(self.state, self.origin(), self.turn_id, answer(words, **changes), some_id())
        )

    def cancel_queued(self, turn_id: UUID) -> Events:
        return self._keep(running_turns.cancel_turn(self.state, self.origin(), turn_id, answer(""), some_id()))

    def unsay(self, message_id: UUID, *, superseded: bool = False) -> Events:
        place = MessagePlace(2, superseded)
        return self._keep(conversations.delete_message(self.state, self.origin(), message_id, place))

    def delete(self) -> Events:
        return self._keep(conversations.delete_conversation(self.state, self.origin()))

    @property
    def turn_id(self) -> UUID:
        assert self.state.turn is not None
        return self.state.turn.id

    def messages(self) -> list[MessageAdded]:
        """Return all messages, including deleted and superseded ones."""
        return [event for event in self.events if isinstance(event, MessageAdded)]

    def _keep(self, events: Events) -> Events:
        self._state = fold(self._state, events)
        self.events += events
        return events


def one_of_each() -> list[ConversationEvent]:
    """Return a conversation with every event type and every field."""
    story = Story(
        agent_id="support-1", title="Grüße", metadata={"plan": "pro", "n": 2**70}, agent_number=next(_AGENT_NUMBERS)
    )
    story.rename(title="Later", metadata={})
    story.unsay(story.say(said_at=LONG_AGO)[0].message_id)  # pyright: ignore[reportAttributeAccessIssue]
    story.ask(max_context_tokens=4000, temperature=0.5, max_output_tokens=100, metadata={"k": [1, None]})
    story.stream("Be", "cause")
    used = usage(cached_input_tokens=3, reasoning_tokens=1)
    story.complete("Because", usage=used, finish_reason="stop", time_to_first_token_ms=12.5, duration_ms=80.25)
    story.ask()
    story.fail("Hm", time_to_first_token_ms=12.5, duration_ms=30000.0)
    story.ask(generate=False)
    story.cancel("Well", time_to_first_token_ms=12.5, duration_ms=80.25)
    story.ask(tools=(TOOL,), agent=RESOLVED)
    story.call_tools("add", "find", words="Let me see.", usage=used, time_to_first_token_ms=12.5)
    story.give_results()
    story.call_tools("add", timeout_s=60)
    story.give_results()
    story.complete("Found.", usage=usage(), finish_reason="stop", duration_ms=80.25)
    question = next(message for message in reversed(story.messages()) if message.role == "user")
    story.ask_again(question)
    story.queue("Next", replacing=question.originator_version)
    story.queue(
        "Now",
        ahead=True,
        max_context_tokens=4000,
        temperature=0.5,
        max_output_tokens=100,
        tools=(TOOL,),
        left_open=("model",),
    )
    story.cancel("Well")
    story.cancel_queued(story.state.queue[0].id)
    story.start_next(model="gpt-4o", agent=RESOLVED)
    story.complete("At last")
    story.unsay(question.message_id, superseded=True)
    story.delete()
    return story.events


def audit_read(version: int = 1) -> AuditRead:
    """Return a read by an auditor, with every field."""
    return AuditRead(
        originator_id=some_id(),
        originator_version=version,
        timestamp=BEGINNING,
        actor="auditor:watch",
        request_id="req-1",
        method="GET",
        route="/v1/conversations/{conversation_id}/messages",
        ids={"conversation_id": str(some_id())},
        owner_id="alice",
        parameters=("limit", "order"),
    )


def turn_of(events: list[ConversationEvent]) -> tuple[MessageAdded, TurnStarted, list[StreamDelta]]:
    """Return the question, the start and the deltas of the only turn in `events`."""
    started = next(event for event in events if isinstance(event, TurnStarted))
    question = next(e for e in events if isinstance(e, MessageAdded) and e.message_id == started.user_message_id)
    return question, started, [event for event in events if isinstance(event, StreamDelta)]
