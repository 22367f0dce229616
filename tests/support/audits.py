"""Logs for audits: recorded, sealed, and tampered with."""

from typing import LiteralString

import psycopg

from audit.seals.sealer import Sealer
from tests.support.histories.builders import Story
from tests.support.store import Store
from tests.support.waiting import NEVER_S

DIGEST: LiteralString = (
    "event_digest(position, aggregate, aggregate_id, version, type, data, actor, request_id, recorded_at, salt,"
    " content_hash)"
)
ERASE: LiteralString = (
    "UPDATE events SET content_hash = sha256(salt || convert_to(data::text, 'UTF8')), salt = NULL, data = '{}'"
)


def conversation_of(events: int) -> Story:
    """Return a conversation with so many events."""
    story = Story(title="Proof")
    for number in range(events - 1):
        story.say(f"Message {number}")
    return story


async def sealed(store: Store, events: int, head_events: int) -> None:
    """Record a conversation of so many events and seal it in equal parts."""
    await store.append(conversation_of(events).events)
    sealer = Sealer(store.database, store.feed, head_events, NEVER_S)
    assert await sealer.seal() == await store.log.head()


def tamper(conninfo: str, *statements: LiteralString) -> None:
    """Run statements as a superuser with the triggers disabled."""
    with psycopg.connect(conninfo, options="-c search_path=turnlog -c timezone=UTC") as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)
