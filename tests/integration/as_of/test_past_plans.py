"""Reads of the past find their events by indexes, and skip the deltas."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from psycopg.rows import TupleRow

from domain.events import ConversationEvent
from eventlog.db.database import Database, Statement
from projections.models.listing_filter import ListingFilter
from tests.support.histories.builders import Story
from tests.support.past import MANY, readers_at
from tests.support.store import opened, rows
from turns.model.sent_context import sent_context

CONVERSATIONS, DELTAS = 100, 100
OF_ALICE = 20
CALLS = 50
EVENTS = CONVERSATIONS * (5 + DELTAS)


class Explaining(Database):
    """A database that counts the events that its statements read."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.nodes: list[dict[str, Any]] = []

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        text = statement if isinstance(statement, bytes) else statement.encode()
        explained = await super().fetch(b"EXPLAIN (ANALYZE, FORMAT JSON) " + text, parameters)
        self.nodes += scans(explained[0][0][0]["Plan"])
        return await super().fetch(statement, parameters)

    def events_read(self) -> float:
        read = sum(map(rows_read, self.nodes))
        self.nodes.clear()
        return read


class Counting(Database):
    """A database that counts the rows that its statements return."""

    returned = 0

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        found = await super().fetch(statement, parameters)
        self.returned += len(found)
        return found


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a plan that read the events."""
    found = [plan] if plan.get("Relation Name") == "events" else []
    return [*found, *(node for inner in plan.get("Plans", ()) for node in scans(inner))]


def rows_read(node: dict[str, Any]) -> float:
    assert node["Node Type"] != "Seq Scan", node
    removed = sum(node.get(f"Rows Removed by {cause}", 0) for cause in ("Filter", "Index Recheck"))
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


def told(owner: str) -> Story:
    """Return a conversation with a long stream."""
    story = Story(owner=owner, title="Long")
    story.ask()
    for number in range(DELTAS):
        story.stream(str(number))
    story.complete("Because")
    return story


@pytest.fixture
async def long_log(prepared_url: str) -> tuple[str, UUID]:
    """A log of streamed conversations, and one of them."""
    stories = [told("alice" if number < OF_ALICE else "bob") for number in range(CONVERSATIONS)]
    events: list[ConversationEvent] = [event for story in stories for event in story.events]
    async with opened(prepared_url, listening=False) as store:
        assert await store.append(events) == EVENTS
    rows(prepared_url, "VACUUM ANALYZE events")
    return prepared_url, stories[0].id


async def test_a_listing_reads_a_few_events_of_each_conversation(long_log: tuple[str, UUID]) -> None:
    conninfo, id_ = long_log
    database = Explaining(conninfo)
    await database.open()
    try:
        readers = readers_at(database, EVENTS)
        assert len(await readers.listing.page("alice", ListingFilter(), None, MANY)) == OF_ALICE
        assert database.events_read() < 20 * OF_ALICE
        assert len(await readers.listing.page(None, ListingFilter(), None, MANY)) == CONVERSATIONS
        assert database.events_read() < 20 * CONVERSATIONS
        assert await readers.listing.get(id_) is not None
        assert database.events_read() < 25
    finally:
        await database.close()


async def test_a_turn_of_many_tool_calls_is_read_from_its_end(prepared_url: str) -> None:
    story = Story()
    story.ask()
    for _ in range(CALLS):
        story.call_tools("add")
        story.give_results("3")
    story.stream("so")
    async with opened(prepared_url, listening=False) as store:
        position = await store.append(story.events)
    rows(prepared_url, "VACUUM ANALYZE events")
    counting = Counting(prepared_url)
    await counting.open()
    try:
        readers = readers_at(counting, position)
        row = await readers.listing.get(story.id)
        assert row is not None and (row.status, row.message_count) == ("running", 2 * CALLS + 1)
        assert counting.returned < 12
        page = await readers.history.page(story.id, descending=True, superseded=False, beyond=None, limit=5)
        assert [message.status for message in page] == ["streaming", *["completed"] * 4]
        assert counting.returned < 40
    finally:
        await counting.close()


async def test_the_context_and_the_turns_are_found_without_the_deltas(long_log: tuple[str, UUID]) -> None:
    conninfo, id_ = long_log
    database = Explaining(conninfo)
    await database.open()
    try:
        readers = readers_at(database, EVENTS)
        assert len((await sent_context(readers.context, id_, 1000)).messages) == 2
        assert database.events_read() < 25
        assert await readers.history.page(id_, descending=True, superseded=False, beyond=None, limit=9)
        assert database.events_read() < 2 * DELTAS
    finally:
        await database.close()
