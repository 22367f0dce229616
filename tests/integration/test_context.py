"""The context window: the newest that fits, the same as a naive search finds, in time that grows with the window."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from domain.content import Content, Role, TextBlock, ToolResultBlock, ToolUseBlock
from domain.events import ConversationEvent
from eventlog.database import Database, Statement
from eventlog.log import Log
from projections.catalog import PROJECTIONS
from projections.context import Context, ContextWindow
from projections.model_messages import model_messages
from projections.tool_exchanges import NO_CONTENT
from tests.support.builders import Story
from tests.support.naive_views.context import naive_window
from tests.support.openai_rules import check_openai
from tests.support.store import Store, opened, rows

BUDGET = 1000
TEXT = TextBlock(text="x")
CALL = ToolUseBlock(id="a", name="search", input={})
CONTENTS: list[tuple[Role, Content]] = [
    ("user", (TEXT,)),
    ("assistant", (TEXT,)),
    ("assistant", (CALL, CALL)),
    ("tool", (ToolResultBlock(tool_use_id="a", content="1"),)),
    ("system", (TEXT,)),
]


async def projected(store: Store, *stories: Story) -> None:
    async with store.projecting(*PROJECTIONS) as progress:
        position = await store.append([event for story in stories for event in story.events])
        assert await progress.wait(position, 60) == []


async def window(conninfo: str, story: Story, max_tokens: int, last: int | None = None) -> ContextWindow:
    async with opened(conninfo) as store:
        await projected(store, story)
        return await Context(store.database, store.log).window(story.id, max_tokens, last)


def words(found: ContextWindow) -> list[str]:
    return [message["content"] for message in found.messages]


def talk(rounds: int, tokens: int = 10) -> Story:
    """Return a conversation of questions and answers of `tokens` each: q1, a1, q2 …"""
    story = Story()
    for number in range(1, rounds + 1):
        story.say(f"q{number}", tokens=tokens)
        story.say(f"a{number}", "assistant", tokens=tokens)
    return story


async def test_what_fits_is_sent_whole(prepared_url: str) -> None:
    found = await window(prepared_url, talk(2), BUDGET)
    assert (words(found), found.tokens, found.dropped) == (["q1", "a1", "q2", "a2"], 40, 0)
    assert [message["role"] for message in found.messages] == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (40, ["q1", "a1", "q2", "a2"]),
        (39, ["q2", "a2"]),
        (20, ["q2", "a2"]),
        (19, ["q2", "a2"]),
        (0, ["q2", "a2"]),
    ],
)
async def test_a_window_keeps_to_its_budget_but_holds_the_last_question(
    prepared_url: str, max_tokens: int, expected: list[str]
) -> None:
    found = await window(prepared_url, talk(2), max_tokens)
    assert (words(found), found.dropped) == (expected, 4 - len(expected))


@pytest.mark.parametrize(
    ("last", "expected"),
    [(1, ["q3", "a3"]), (2, ["q3", "a3"]), (3, ["q3", "a3"]), (4, ["q2", "a2", "q3", "a3"]), (99, None)],
)
async def test_a_window_holds_at_most_the_last_messages_and_begins_with_a_question(
    prepared_url: str, last: int, expected: list[str] | None
) -> None:
    found = await window(prepared_url, talk(3), BUDGET, last)
    assert words(found) == (expected or ["q1", "a1", "q2", "a2", "q3", "a3"])


async def test_system_messages_are_always_sent_and_paid_for_first(prepared_url: str) -> None:
    story = Story()
    story.say("Be brief", "system", tokens=10)
    for number in range(3):
        story.say(f"q{number}", tokens=10)
    found = await window(prepared_url, story, 30)
    assert (words(found), found.tokens, found.dropped) == (["Be brief", "q1\n\nq2"], 30, 1)


async def test_system_messages_larger_than_the_budget_leave_room_for_the_last_question(prepared_url: str) -> None:
    story = talk(2)
    story.say("Be brief", "system", tokens=500)
    found = await window(prepared_url, story, 100)
    assert (words(found), found.dropped) == (["Be brief", "q2", "a2"], 2)


async def test_a_conversation_without_a_question_is_sent_from_where_it_fits(prepared_url: str) -> None:
    story = Story()
    for number in range(3):
        story.say(f"a{number}", "assistant", tokens=10)
    assert words(await window(prepared_url, story, 20)) == [NO_CONTENT, "a1\n\na2"]


async def test_an_empty_conversation_has_an_empty_window(prepared_url: str) -> None:
    assert await window(prepared_url, Story(), BUDGET) == ([], 0, 0)


async def test_deleted_messages_leave_the_window_and_make_room(prepared_url: str) -> None:
    story = talk(3)
    question, reply = story.messages()[2:4]
    story.unsay(question.message_id)
    story.unsay(reply.message_id)
    found = await window(prepared_url, story, 40)
    assert (words(found), found.tokens, found.dropped) == (["q1", "a1", "q3", "a3"], 40, 0)


async def test_a_deleted_system_message_moves_nothing_but_itself(prepared_url: str) -> None:
    story = Story()
    story.say("Be brief", "system", tokens=10)
    for number in range(4):
        story.say(f"q{number}", tokens=10)
    story.unsay(story.messages()[0].message_id)
    found = await window(prepared_url, story, 20)
    assert (words(found), found.tokens, found.dropped) == (["q2\n\nq3"], 20, 2)
    before = "SELECT tokens_before, messages_before FROM context ORDER BY version"
    assert rows(prepared_url, before) == [(0, 0), (10, 1), (20, 2), (30, 3)]


@pytest.mark.parametrize(("last", "expected"), [(5, ["q1", None, "1", "q2"]), (3, ["q2"]), (1, ["q2"])])
async def test_a_window_holds_a_call_with_its_result_or_neither(
    prepared_url: str, last: int, expected: list[str | None]
) -> None:
    story = Story()
    story.say("q1")
    story.say("", "assistant", content=(CALL,))
    story.say("q2")
    story.say("", "tool", content=(ToolResultBlock(tool_use_id="a", content="1"),))
    assert words(await window(prepared_url, story, BUDGET, last)) == expected


async def test_a_call_whose_question_was_deleted_leaves_the_window_with_its_result(prepared_url: str) -> None:
    story = Story()
    story.say("q1")
    story.say("", "assistant", content=(CALL,))
    story.say("", "tool", content=(ToolResultBlock(tool_use_id="a", content="1"),))
    story.say("q2")
    story.unsay(story.messages()[0].message_id)
    assert words(await window(prepared_url, story, BUDGET)) == ["q2"]


async def test_a_deleted_conversation_has_an_empty_window(prepared_url: str) -> None:
    story = talk(2)
    story.delete()
    assert await window(prepared_url, story, BUDGET) == ([], 0, 0)


async def test_another_conversation_is_none_of_its_business(prepared_url: str) -> None:
    one, other = talk(2), talk(3)
    async with opened(prepared_url) as store:
        await projected(store, one, other)
        assert (await Context(store.database, store.log).window(one.id, BUDGET)).tokens == 40


@st.composite
def conversations(draw: st.DrawFn) -> Story:
    story = Story()
    for _ in range(draw(st.integers(0, 14))):
        role, content = draw(st.sampled_from(CONTENTS))
        story.say("x", role, content=content, tokens=draw(st.integers(0, 9)))
        if draw(st.integers(0, 5)) == 0:
            there = {event.message_id for event in story.messages()} - _unsaid(story.events)
            story.unsay(draw(st.sampled_from(sorted(there))))
    return story


def _unsaid(events: Sequence[ConversationEvent]) -> set[Any]:
    return {getattr(event, "message_id", None) for event in events if type(event).__name__ == "MessageDeleted"}


async def test_any_window_of_any_conversation_is_the_one_a_naive_search_finds(prepared_url: str) -> None:
    stories: list[Story] = []

    @settings(max_examples=60, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(conversations())
    def collect(story: Story) -> None:
        stories.append(story)

    collect()
    async with opened(prepared_url) as store:
        await projected(store, *stories)
        context = Context(store.database, store.log)
        for number, story in enumerate(stories):
            for max_tokens in (0, 5 + number % 7, 40):
                for last in (None, 1 + number % 5):
                    found = await context.window(story.id, max_tokens, last)
                    expected = naive_window(story.events, max_tokens, last)
                    chosen = [said for said in story.messages() if said.originator_version in expected.versions]
                    assert found == (model_messages(chosen), *expected[1:])
                    check_openai(found.messages)


class WatchedDatabase(Database):
    """A database that keeps what it was asked."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.asked: list[tuple[Statement, Any]] = []

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        self.asked.append((statement, parameters))
        return await super().fetch(statement, parameters)


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a plan that read a table."""
    found = [plan] if "Relation Name" in plan else []
    return [*found, *(node for inner in plan.get("Plans", ()) for node in scans(inner))]


def rows_read(node: dict[str, Any]) -> float:
    """Return how many rows a scan looked at, those it threw away included."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


@pytest.mark.parametrize("last", [None, 10])
async def test_the_window_of_ten_thousand_messages_reads_little_more_than_it_sends(
    prepared_url: str, last: int | None
) -> None:
    story = talk(5000)
    story.say("Be brief", "system", tokens=1)
    async with opened(prepared_url) as store:
        await projected(store, story, *(talk(3) for _ in range(100)))
    rows(prepared_url, "ANALYZE")
    database = WatchedDatabase(prepared_url)
    await database.open()
    found = await Context(database, Log(database)).window(story.id, 401, last)
    await database.close()
    assert (len(found.messages), found.tokens) == ((41, 401) if last is None else (11, 101))

    read = 0.0
    with psycopg.connect(prepared_url, options="-c search_path=turnlog") as connection:
        for statement, parameters in database.asked:
            explain = b"EXPLAIN (ANALYZE, FORMAT JSON) " + (
                statement if isinstance(statement, bytes) else statement.encode()
            )
            plan = connection.execute(explain, parameters).fetchone()
            assert plan is not None
            for scan in scans(cast(list[dict[str, Any]], plan[0])[0]["Plan"]):
                assert scan["Node Type"] != "Seq Scan", json.dumps(scan)
                read += rows_read(scan)
    assert read < 6 * len(found.messages)
