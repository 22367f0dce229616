"""The context, and the window of it that a model is sent, told plainly."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from domain.events import ConversationDeleted, ConversationEvent, MessageAdded, MessageDeleted, MessagesSuperseded
from tests.support.naive_views.rows import Row, without


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
