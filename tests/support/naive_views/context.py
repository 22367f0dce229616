"""A naive view of the context and of the window that is sent to a model."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import to_json

from domain.events import ConversationDeleted, ConversationEvent, MessageAdded, MessageDeleted, MessagesSuperseded
from tests.support.models.openai_tokens import IMAGE, openai_tokens
from tests.support.naive_views.rows import Row, without
from turns.model.messages import model_messages


def naive_context(events: Iterable[ConversationEvent]) -> list[Row]:
    context: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, MessageAdded):
            context[event.message_id] = {
                "conversation_id": event.originator_id,
                "version": event.originator_version,
                "message_id": event.message_id,
                "role": event.role,
                "tokens": about(event),
            }
        elif isinstance(event, MessagesSuperseded):
            context = without(
                context,
                lambda m, e=event: m["conversation_id"] == e.originator_id and m["version"] >= e.from_version,
            )
        elif isinstance(event, MessageDeleted):
            context.pop(event.message_id, None)
        elif isinstance(event, ConversationDeleted):
            context = without(context, lambda m, e=event: m["conversation_id"] == e.originator_id)
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


def about(event: MessageAdded) -> int:
    """Return the table's token estimate of a message.

    It is the recorded tokens without reasoning, and the overhead of the message.
    """
    images = calls = results = characters = thought = other = 0
    for block in event.content:
        match block.type:
            case "image":
                images += 1
            case "tool_use":
                calls += 1
                characters += len(block.name)
                other += len(to_json(block.input))
            case "tool_result":
                results += 1
                characters += len(block.tool_use_id)
            case "reasoning":
                thought += len(block.text)
            case "text":
                other += len(block.text)
            case "context":
                pass
    tokens = event.tokens * other // (other + thought) if thought else event.tokens
    messages = results if event.role == "tool" else 1
    return 4 * messages + IMAGE * images + characters // 3 + tokens


class NaiveWindow(NamedTuple):
    """The messages sent to a model, their tokens, and the number of dropped ones."""

    messages: list[dict[str, Any]]
    tokens: int
    dropped: int


def naive_window(events: Sequence[ConversationEvent], max_tokens: int, last: int | None = None) -> NaiveWindow:
    """Return the window of the only conversation in `events`.

    Every start is tried, beginning with the oldest.
    """
    rows = sorted(naive_context(events), key=lambda row: row["version"])
    by_version = {event.originator_version: event for event in events if isinstance(event, MessageAdded)}
    system = [by_version[row["version"]] for row in rows if row["role"] == "system"]
    others = [by_version[row["version"]] for row in rows if row["role"] != "system"]
    if not rows:
        return NaiveWindow([], 0, 0)
    questions = [place for place, message in enumerate(others) if message.role == "user"]
    starts = questions or list(range(len(others) + 1))
    late_enough = [place for place in starts if last is None or len(others) - place <= last] or starts[-1:]
    for start in late_enough:
        messages = model_messages([*system, *others[start:]])
        if openai_tokens(messages) <= max_tokens or start == late_enough[-1]:
            return NaiveWindow(messages, openai_tokens(messages), start)
    raise AssertionError("there is always a last start")
