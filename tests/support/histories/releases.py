"""Rows of the log with the shapes of other releases."""

from typing import Any

from pydantic_core import to_json

from domain.aggregates import AggregateEvent
from tests.support.store import value


def store_row(conninfo: str, event: AggregateEvent, type_name: str, data: Any, aggregate: str = "conversation") -> int:
    """Write a row of any shape in the place of `event` and return its position."""
    columns = [aggregate, event.originator_id, event.originator_version, type_name, to_json(data).decode()]
    statement = (
        "WITH next AS (UPDATE head SET position = position + 1 RETURNING position)"
        " INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at,"
        " salt, digest) SELECT next.position, e.*, event_digest(next.position, e.aggregate, e.id, e.version, e.type,"
        " e.data, e.actor, e.request_id, e.at, e.salt, NULL) FROM next, (VALUES (%s::aggregate_kind, %s::uuid,"
        " %s::integer, %s::text, %s::jsonb, %s::text, %s::text, %s::timestamptz, '\\x00'::bytea))"
        " AS e(aggregate, id, version, type, data, actor, request_id, at, salt) RETURNING position"
    )
    return value(conninfo, statement, [*columns, event.actor, event.request_id, event.timestamp])
