"""Recorded events as lines, for a terminal or as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson

from cli.terminal import Look, Span, cells, composed, cut, visible, visible_json
from projections.models.json_resources import recorded_event_resource, rfc3339

DATA_WIDTH = 160
LEAST_DATA_WIDTH = 20
MAX_ACTOR_CELLS = 24
NARROW_INDENT = " " * 10
LOOKS: Mapping[str, Look] = {
    "ConversationStarted": "added",
    "ConversationUpdated": "added",
    "ConversationDeleted": "failed",
    "MessageAdded": "added",
    "MessageDeleted": "failed",
    "MessagesSuperseded": "failed",
    "TurnQueued": "begun",
    "TurnStarted": "begun",
    "StreamDelta": "quiet",
    "TurnSuspended": "called",
    "TurnResumed": "called",
    "TurnCompleted": "ended",
    "TurnFailed": "failed",
    "TurnCancelled": "ended",
    "AgentDefined": "called",
    "AgentDeleted": "failed",
    "AuditRead": "read",
}
"""The colours of events. Those of other types have none."""


def json_line(record: dict[str, Any]) -> str:
    """Return a record of the log as one line of JSON, with all data."""
    return visible_json(orjson.dumps(recorded_event_resource(record)).decode())


def event_line(record: dict[str, Any], columns: int | None, *, colours: bool = False) -> str:
    """Return a record as a line, or as two on a terminal that is too narrow.

    Without a terminal `columns` is None, and only the data is cut.
    """
    id_ = record.get("conversation_id") or record["aggregate_id"]
    place = [
        Span(f"{record['position']:>8}  {rfc3339(record['recorded_at'])}  ", "quiet"),
        Span(str(id_)),
    ]
    what = [
        Span(f"v{record['version']:<5} ", "quiet"),
        Span(f"{visible(record['type']):<20} ", LOOKS.get(record["type"], "plain")),
        Span(f"{cut(visible(record['actor']), MAX_ACTOR_CELLS):<14} "),
    ]
    data = visible_json(record["data"][: max(DATA_WIDTH, columns or 0) + 1])
    if columns is None:
        shown = data if len(data) <= DATA_WIDTH else f"{data[: DATA_WIDTH - 1]}…"
        return composed([*place, Span("  "), *what, Span(shown)], None, colours=colours)
    if columns >= sum(cells(span.text) for span in (*place, *what)) + 2 + LEAST_DATA_WIDTH:
        return composed([*place, Span("  "), *what, Span(data)], columns, colours=colours)
    first = composed(place, columns, colours=colours)
    second = composed([Span(NARROW_INDENT), *what, Span(data)], columns, colours=colours)
    return f"{first}\n{second}"
