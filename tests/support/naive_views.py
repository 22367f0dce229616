"""What the read models must hold, computed in the plainest way from all events; slow, and easy to believe."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import strategies as st

from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    StreamDelta,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnStarted,
)
from tests.support.builders import BEGINNING, Story, usage

Row = dict[str, Any]


def naive_listing(events: Iterable[ConversationEvent]) -> list[Row]:
    listing: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, StreamDelta):
            continue
        if isinstance(event, ConversationStarted):
            listing[event.originator_id] = {
                "conversation_id": event.originator_id,
                "owner_id": event.owner_id,
                "agent_id": event.agent_id,
                "created_at": event.timestamp,
                "active_at": event.timestamp,
                "message_count": 0,
                "active_turn_id": None,
                "last_message_at": None,
                "deleted": False,
            }
        row = listing[event.originator_id]
        row |= {"version": event.originator_version, "updated_at": event.timestamp}
        if isinstance(event, ConversationStarted | ConversationUpdated):
            row |= {"title": event.title, "metadata": event.metadata}
        elif isinstance(event, MessageAdded):
            row |= {"last_message_at": event.timestamp, "active_at": event.timestamp}
            row["message_count"] += 1
        elif isinstance(event, MessageDeleted):
            row["message_count"] -= 1
        elif isinstance(event, TurnStarted):
            row["active_turn_id"] = event.turn_id
        elif isinstance(event, TurnEnded):
            row["active_turn_id"] = None
        elif isinstance(event, ConversationDeleted):
            row["deleted"] = True
    return list(listing.values())


def naive_history(events: Iterable[ConversationEvent]) -> list[Row]:
    """Return the messages, a streaming one without the text of its deltas."""
    history: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, MessageAdded):
            history[event.message_id] = {
                "conversation_id": event.originator_id,
                "message_id": event.message_id,
                "version": event.originator_version,
                "turn_id": event.turn_id,
                "role": event.role,
                "author_id": event.author_id,
                "content": [block.model_dump(mode="json") for block in event.content],
                "in_reply_to": event.in_reply_to,
                "status": event.status,
                "model": event.model,
                "tokens": event.tokens,
                "usage": event.usage.model_dump(mode="json") if event.usage else None,
                "finish_reason": event.finish_reason,
                "created_at": event.timestamp,
            }
        elif isinstance(event, TurnStarted):
            history[event.message_id] = {
                "conversation_id": event.originator_id,
                "message_id": event.message_id,
                "version": event.originator_version,
                "turn_id": event.turn_id,
                "role": "assistant",
                "author_id": None,
                "content": [],
                "in_reply_to": event.user_message_id,
                "status": "streaming",
                "model": event.model,
                "tokens": 0,
                "usage": None,
                "finish_reason": None,
                "created_at": event.timestamp,
            }
        elif isinstance(event, TurnEnded):
            history = _without(history, lambda m, e=event: m["turn_id"] == e.turn_id and m["status"] == "streaming")
        elif isinstance(event, MessageDeleted):
            history.pop(event.message_id, None)
        elif isinstance(event, ConversationDeleted):
            history = _without(history, lambda m, e=event: m["conversation_id"] == e.originator_id)
    return list(history.values())


def naive_turns(events: Iterable[ConversationEvent]) -> list[Row]:
    turns: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, TurnStarted):
            turns[event.turn_id] = {
                "conversation_id": event.originator_id,
                "turn_id": event.turn_id,
                "version": event.originator_version,
                "user_message_id": event.user_message_id,
                "message_id": event.message_id,
                "status": "running",
                "model": event.model,
                "started_at": event.timestamp,
                **dict.fromkeys(["usage", "finish_reason", "error_code", "error_detail", "ended_at"]),
                **dict.fromkeys(["time_to_first_token_ms", "duration_ms"]),
            }
        elif isinstance(event, TurnEnded):
            timings = {key: getattr(event, key) for key in ("time_to_first_token_ms", "duration_ms")}
            turns[event.turn_id] |= {"status": "cancelled", "ended_at": event.timestamp, **timings}
            if isinstance(event, TurnCompleted):
                used = event.usage.model_dump(mode="json") if event.usage else None
                turns[event.turn_id] |= {"status": "completed", "usage": used, "finish_reason": event.finish_reason}
            elif isinstance(event, TurnFailed):
                broken = {"error_code": event.reason, "error_detail": event.detail}
                turns[event.turn_id] |= {"status": "failed", **broken}
        elif isinstance(event, ConversationDeleted):
            turns = _without(turns, lambda t, e=event: t["conversation_id"] == e.originator_id)
    return list(turns.values())


def naive_stream_text(events: Iterable[ConversationEvent]) -> list[Row]:
    """Return the deltas of the turns that still run."""
    running: dict[UUID, list[Row]] = {}
    for event in events:
        if isinstance(event, StreamDelta):
            running.setdefault(event.turn_id, []).append(
                {
                    "turn_id": event.turn_id,
                    "first_seq": event.first_seq,
                    "block_index": event.block_index,
                    "block_type": event.block_type,
                    "text": "".join(event.chunks),
                }
            )
        elif isinstance(event, TurnEnded):
            running.pop(event.turn_id, None)
    return [row for deltas in running.values() for row in deltas]


def naive_context(events: Iterable[ConversationEvent]) -> list[Row]:
    context: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, MessageAdded):
            context[event.message_id] = {
                "conversation_id": event.originator_id,
                "version": event.originator_version,
                "message_id": event.message_id,
                "role": event.role,
                "tokens": event.tokens,
            }
        elif isinstance(event, MessageDeleted):
            context.pop(event.message_id, None)
        elif isinstance(event, ConversationDeleted):
            context = _without(context, lambda m, e=event: m["conversation_id"] == e.originator_id)
    rows = list(context.values())
    for row in rows:
        before = [
            other
            for other in rows
            if other["conversation_id"] == row["conversation_id"]
            and other["version"] < row["version"]
            and other["role"] != "system"
        ]
        row |= {"tokens_before": sum(other["tokens"] for other in before), "messages_before": len(before)}
    return rows


def naive_usage(events: Iterable[ConversationEvent]) -> list[Row]:
    """Return the turns that there ever were, whatever was deleted since."""
    started: dict[UUID, ConversationStarted] = {}
    turns: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, ConversationStarted):
            started[event.originator_id] = event
        elif isinstance(event, TurnStarted):
            turns[event.turn_id] = {
                "conversation_id": event.originator_id,
                "owner_id": started[event.originator_id].owner_id,
                "agent_id": started[event.originator_id].agent_id,
                "turn_id": event.turn_id,
                "day": date(event.timestamp.year, event.timestamp.month, event.timestamp.day),
                "model": event.model,
                "status": "running",
                **dict.fromkeys(["input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"]),
                **dict.fromkeys(["cost_usd", "time_to_first_token_ms", "duration_ms"]),
            }
        elif isinstance(event, TurnEnded):
            turn = turns[event.turn_id]
            turn["status"] = type(event).__name__.removeprefix("Turn").lower()
            turn["time_to_first_token_ms"] = event.time_to_first_token_ms
            turn["duration_ms"] = event.duration_ms
            if isinstance(event, TurnCompleted) and event.usage:
                turn["input_tokens"] = event.usage.input_tokens
                turn["output_tokens"] = event.usage.output_tokens
                turn["cached_input_tokens"] = event.usage.cached_input_tokens
                turn["reasoning_tokens"] = event.usage.reasoning_tokens
                turn["cost_usd"] = event.usage.cost_usd
    return list(turns.values())


def naive_usage_conversations(events: Iterable[ConversationEvent]) -> list[Row]:
    return [
        {"conversation_id": event.originator_id, "owner_id": event.owner_id, "agent_id": event.agent_id}
        for event in events
        if isinstance(event, ConversationStarted)
    ]


class NaiveWindow(NamedTuple):
    """The versions of the messages a model is sent, their tokens, and how many were dropped."""

    versions: list[int]
    tokens: int
    dropped: int


def naive_window(events: Sequence[ConversationEvent], max_tokens: int, last: int | None = None) -> NaiveWindow:
    """Return the window of the only conversation in `events`, found by trying every start from the oldest on."""
    rows = sorted(naive_context(events), key=lambda row: row["version"])
    system = [row for row in rows if row["role"] == "system"]
    others = [row for row in rows if row["role"] != "system"]
    budget = max(0, max_tokens - sum(row["tokens"] for row in system))
    start = 0
    while start < len(others) and (
        sum(row["tokens"] for row in others[start:]) > budget or (last is not None and len(others) - start > last)
    ):
        start += 1
    questions = [index for index, row in enumerate(others) if row["role"] == "user"]
    later = [index for index in questions if index >= start]
    if questions:
        start = later[0] if later else questions[-1]
    chosen = others[start:]
    sent = sorted([*system, *chosen], key=lambda row: row["version"])
    return NaiveWindow([row["version"] for row in sent], sum(row["tokens"] for row in sent), start)


NAIVE: dict[str, Callable[[Iterable[ConversationEvent]], list[Row]]] = {
    "listing": naive_listing,
    "history": naive_history,
    "turns": naive_turns,
    "stream_text": naive_stream_text,
    "context": naive_context,
    "usage": naive_usage,
    "usage_conversations": naive_usage_conversations,
}


def in_order(rows: Iterable[Row]) -> list[list[tuple[str, str]]]:
    """Return rows so that equal sets of rows are equal values."""
    return sorted(sorted((key, _plain(value)) for key, value in row.items()) for row in rows)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(_sorted(value))


def _sorted(value: Any) -> Any:
    """Return `value` with its objects' keys in one order: jsonb has an order of its own."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def _without(rows: dict[UUID, Row], leaves: Callable[[Row], bool]) -> dict[UUID, Row]:
    return {key: row for key, row in rows.items() if not leaves(row)}


@st.composite
def histories(draw: st.DrawFn, most_steps: int = 30) -> list[ConversationEvent]:
    """Return the events of some conversations, each of them possible, mixed as a log mixes them."""
    log: list[ConversationEvent] = []
    stories: list[Story] = []
    for _ in range(draw(st.integers(1, most_steps))):
        if not stories or draw(st.integers(0, 5)) == 0:
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
    steps = _while_it_runs(draw, story, words) if story.state.turn else _while_it_is_idle(draw, story, words)
    steps["rename"] = lambda: story.rename(title=words, metadata={"w": words})
    if draw(st.integers(0, 9)) == 0:
        return story.delete()
    return steps[draw(st.sampled_from(sorted(steps)))]()


Steps = dict[str, Callable[[], Sequence[ConversationEvent]]]


def _while_it_runs(draw: st.DrawFn, story: Story, words: str) -> Steps:
    return {
        "stream": lambda: story.stream(words, "!"),
        "think": lambda: story.stream(words, block_index=1, block_type="reasoning"),
        "complete": lambda: story.complete(words, usage=usage(), duration_ms=1.5),
        "complete at a price": lambda: story.complete(
            words, usage=usage(cached_input_tokens=3, cost_usd=Decimal("0.0012")), time_to_first_token_ms=0.5
        ),
        "complete in silence": lambda: story.complete(""),
        "fail": lambda: story.fail(draw(st.sampled_from(["", words]))),
        "cancel": lambda: story.cancel(draw(st.sampled_from(["", words]))),
    }


def _while_it_is_idle(draw: st.DrawFn, story: Story, words: str) -> Steps:
    there = {row["message_id"] for row in naive_context(story.events)}
    steps: Steps = {
        "say": lambda: story.say(words, draw(st.sampled_from(["user", "assistant", "system"]))),
        "say for nothing": lambda: story.say(words, tokens=0),
        "ask": lambda: story.ask(words),
    }
    if there:
        steps["unsay"] = lambda: story.unsay(draw(st.sampled_from(sorted(there))))
    return steps
