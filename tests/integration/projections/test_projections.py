"""The read models equal a naive reading of the log, for any batches."""

import asyncio
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow, dict_row
from pydantic_core import from_json

from domain.events import ConversationEvent
from eventlog.db.database import Database, Statement
from projections.apply import run_changes
from projections.catalog import PROJECTIONS
from projections.models.history import History
from projections.models.listing import Listing
from projections.models.listing_filter import ListingFilter
from projections.projection import Change
from projections.status import read_status
from tests.support.histories.builders import Story, one_of_each
from tests.support.histories.histories import histories
from tests.support.naive_views.catalog import NAIVE
from tests.support.naive_views.rows import Row, in_order
from tests.support.store import PATIENCE_S, opened

MOVE = Change(b"SELECT 1", {})
IN_FEW_EXAMPLES = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tables(conninfo: str) -> dict[str, list[Row]]:
    """Return all rows of all read models."""
    settings = "-c search_path=turnlog -c timezone=UTC"
    with psycopg.Connection[Row].connect(conninfo, row_factory=dict_row, options=settings) as connection:
        return {
            table: connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
            for table in NAIVE
        }


def check(conninfo: str, events: list[ConversationEvent]) -> None:
    """Compare the read models with the naive reading of `events`."""
    for table, rows in tables(conninfo).items():
        assert in_order(rows) == in_order(NAIVE[table](events)), table


async def apply(conninfo: str, batches: list[list[ConversationEvent]]) -> None:
    """Empty the read models and apply `batches` as the engine does."""
    async with await AsyncConnection.connect(conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
        for projection in PROJECTIONS:
            for table in projection.tables:
                name = sql.Identifier(projection.table(table))
                await connection.execute(sql.SQL("TRUNCATE {}").format(name))
        for batch in batches:
            changes = [projection.changes(projection.select(batch)) for projection in PROJECTIONS]
            await run_changes(connection, changes, MOVE, 1)


def split(events: list[ConversationEvent], cuts: list[int]) -> list[list[ConversationEvent]]:
    places = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    return [events[start:end] for start, end in pairwise(places)]


def test_a_conversation_with_every_type_of_event_gives_the_right_rows(prepared_url: str) -> None:
    events = one_of_each()
    for upto in range(1, len(events) + 1):
        asyncio.run(apply(prepared_url, [events[:upto]]))
        check(prepared_url, events[:upto])


async def test_a_turn_that_ends_during_a_read_shows_its_whole_answer(prepared_url: str) -> None:
    story = Story()
    events = [*story.events, *story.ask("Why so?"), *story.stream("Be", "cause")]
    await apply(prepared_url, [events])
    events += story.complete("Because!")

    class EndsAfterTheFirstRead(Database):
        async def fetch(self, statement: Statement, parameters: Any = ()) -> list[TupleRow]:
            found = await super().fetch(statement, parameters)
            await apply(prepared_url, [events])
            return found

    database = EndsAfterTheFirstRead(prepared_url)
    await database.open()
    try:
        *_, answer = await History(database).page(story.id, descending=False, superseded=False, beyond=None, limit=10)
    finally:
        await database.close()
    assert (answer.status, from_json(answer.content)) == ("completed", [{"type": "text", "text": "Because!"}])


@IN_FEW_EXAMPLES
@given(events=histories(), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_history_gives_the_right_rows_in_any_batches(
    prepared_url: str, events: list[ConversationEvent], cuts: list[int]
) -> None:
    for batches in ([events], [[event] for event in events], split(events, cuts)):
        asyncio.run(apply(prepared_url, batches))
        check(prepared_url, events)


async def test_the_engine_builds_the_read_models_from_the_log(prepared_url: str) -> None:
    stories = [Story(title=f"Story {number}") for number in range(3)]
    events: list[ConversationEvent] = [event for story in stories for event in story.events]
    for story in stories:
        events += [*story.say("Be brief", "system"), *story.ask("Why so?"), *story.stream("Be", "cause")]
    events += [*stories[0].complete("Because"), *stories[1].fail("Be"), *one_of_each()]
    async with opened(prepared_url) as store, store.projecting(*PROJECTIONS) as progress:
        position = 0
        for event in events:
            position = await store.append([event])
        assert await progress.wait(position, PATIENCE_S) == []
        status = await read_status(store.database, PROJECTIONS)
    check(prepared_url, events)
    assert status.head == position
    assert {(each.live.position, each.live.error, each.lag_events) for each in status.projections if each.live} == {
        (position, None, 0)
    }


async def filled(conninfo: str, *stories: Story) -> None:
    await apply(conninfo, [[event for story in stories for event in story.events]])


async def test_a_streaming_message_shows_its_text_so_far_in_blocks(prepared_url: str) -> None:
    story = Story()
    story.ask()
    story.stream("H", "m", block_type="reasoning")
    story.stream("Be", block_index=1)
    story.stream("cause", block_index=1)
    await filled(prepared_url, story)
    turn = story.state.turn
    assert turn is not None
    async with opened(prepared_url, listening=False) as store:
        message = await History(store.database).message(story.id, turn.message_id)
    assert message is not None
    blocks: Any = [("reasoning", "Hm"), ("text", "Because")]
    assert message.content == "[" + ",".join(f'{{"type":"{kind}","text":"{text}"}}' for kind, text in blocks) + "]"


async def test_messages_and_turns_are_paged_in_both_directions_without_a_gap(prepared_url: str) -> None:
    story = Story()
    for number in range(5):
        story.ask(f"Question {number}")
        story.complete(f"Answer {number}")
    await filled(prepared_url, story)
    versions = [event.originator_version for event in story.messages()]
    async with opened(prepared_url, listening=False) as store:
        history = History(store.database)
        for descending in (False, True):
            seen: list[int] = []
            while page := await history.page(
                story.id, descending=descending, superseded=False, beyond=seen[-1] if seen else None, limit=3
            ):
                seen += [row.version for row in page]
            assert seen == (versions[::-1] if descending else versions)
        first = await history.turns(story.id, None, 3)
        rest = await history.turns(story.id, first[-1].version, 3)
        assert [len(first), len(rest)] == [3, 2]
        assert await history.turn(story.id, rest[-1].id) == rest[-1]


async def test_unknown_ids_give_none(prepared_url: str) -> None:
    story = Story()
    async with opened(prepared_url, listening=False) as store:
        assert await History(store.database).message(story.id, story.id) is None
        assert await History(store.database).turn(story.id, story.id) is None
        assert await Listing(store.database).get(story.id) is None


async def test_the_listing_is_ordered_by_activity_and_paged_without_a_gap(prepared_url: str) -> None:
    stories = [Story() for _ in range(7)]
    stories[2].say()
    stories[5].say()
    stories[5].say()
    stories[0].delete()
    await filled(prepared_url, *stories, Story(owner="bob"))
    async with opened(prepared_url, listening=False) as store:
        listing = Listing(store.database)
        seen = await listing.page("alice", ListingFilter(), None, 3)
        while page := await listing.page("alice", ListingFilter(), seen[-1].place("active"), 3):
            seen += page
    assert [row.id for row in seen[:2]] == [stories[5].id, stories[2].id]
    assert {row.id for row in seen} == {story.id for story in stories[1:]}
    assert len(seen) == 6
    assert [(row.active_at, row.id) for row in seen] == sorted(((row.active_at, row.id) for row in seen), reverse=True)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ListingFilter(), {"a", "b", "c"}),
        (ListingFilter(agent_id="support"), {"a"}),
        (ListingFilter(title_contains="GRÜSSE"), set[str]()),
        (ListingFilter(title_contains="grüße"), {"a", "b"}),
        (ListingFilter(title_contains="100%"), {"b"}),
        (ListingFilter(title_contains="_"), set[str]()),
        (ListingFilter(title_contains="\\"), {"a"}),
        (ListingFilter(metadata={"plan": "pro"}), {"a", "b"}),
        (ListingFilter(metadata={"plan": "pro", "n": "1"}), {"a"}),
        (ListingFilter(metadata={"flag": "true"}), {"b"}),
        (ListingFilter(metadata={"absent": "x"}), set[str]()),
        (ListingFilter(metadata={"plan": "pro", "absent": "x"}), set[str]()),
        (ListingFilter(metadata={"nothing": "null"}), set[str]()),
    ],
)
async def test_the_listing_is_filtered(prepared_url: str, wanted: ListingFilter, found: set[str]) -> None:
    stories = {
        "a": Story(title="Grüße \\ you", agent_id="support", metadata={"plan": "pro", "n": 1}),
        "b": Story(title="100% GRÜßE", metadata={"plan": "pro", "n": 2, "flag": True, "nothing": None}),
        "c": Story(metadata={}),
    }
    await filled(prepared_url, *stories.values())
    async with opened(prepared_url, listening=False) as store:
        rows = await Listing(store.database).page("alice", wanted, None, 10)
    names = {story.id: name for name, story in stories.items()}
    assert {names[row.id] for row in rows} == found
