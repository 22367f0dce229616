"""A naive view of the turns that wait for tool results until a deadline."""

from collections.abc import Iterable
from uuid import UUID

from domain.events import ConversationEvent, TurnEnded, TurnResumed, TurnSuspended
from tests.support.naive_views.rows import Row


def naive_waits(events: Iterable[ConversationEvent]) -> list[Row]:
    waits: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, TurnSuspended):
            ids = {"turn_id": event.turn_id, "conversation_id": event.originator_id}
            waits[event.turn_id] = {**ids, "due_at": event.results_due_at}
        elif isinstance(event, TurnResumed | TurnEnded):
            waits.pop(event.turn_id, None)
    return [row for row in waits.values() if row["due_at"] is not None]
