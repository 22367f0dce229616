"""The context window equals a naive search, in time that grows with the window."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from domain.content import Content, ImageBlock, ReasoningBlock, Role, TextBlock, ToolResultBlock, ToolUseBlock
from domain.events import ConversationEvent
from eventlog.db.database import Database, Statement
from eventlog.log import Log
from projections.catalog import PROJECTIONS
from projections.models.context import Context
from tests.support.histories.builders import Story
from tests.support.models.openai_rules import check_openai
from tests.support.models.openai_tokens import IMAGE
from tests.support.naive_views.context import naive_window
from tests.support.store import Store, opened, rows
from turns.model.sent_context import SentContext, sent_context
from turns.model.tool_exchanges import NO_CONTENT

BUDGET = 1000
MESSAGE = 6
"""The tokens of "q1" (two) as a message."""
REPLY = 3
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


async def window(conninfo: str, story: Story, max_tokens: int, last: int | None = None) -> SentContext:
    async with opened(conninfo) as store:
        await projected(store, story)
        return await sent_context(Context(store.database, store.log), story.id, max_tokens, last)


def words(found: SentContext) -> list[str]:
    return [message["content"] for message in found.messages]


def chat(rounds: int, tokens: int = 2) -> Story:
    """Return a conversation of questions and answers of `tokens` each: q1, a1, q2 …"""
    story = Story()
    for number in range(1, rounds + 1):
        story.say(f"q{number}", tokens=tokens)
        story.say(f"a{number}", "assistant", tokens=tokens)
    return story


async def test_a_conversation_that_fits_is_sent_whole(prepared_url: str) -> None:
    found = await window(prepared_url, chat(2), BUDGET)
    assert (words(found), found.tokens, found.dropped) == (["q1", "a1", "q2", "a2"], 4 * MESSAGE + REPLY, 0)
    assert [message["role"] for message in found.messages] == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (4 * MESSAGE + REPLY, ["q1", "a1", "q2", "a2"]),
        (4 * MESSAGE + REPLY - 1, ["q2", "a2"]),
        (2 * MESSAGE + REPLY, ["q2", "a2"]),
        (2 * MESSAGE + REPLY - 1, ["q2", "a2"]),
        (0, ["q2", "a2"]),
    ],
)
async def test_a_window_stays_within_its_budget_but_holds_the_last_question(
    prepared_url: str, max_tokens: int, expected: list[str]
) -> None:
    found = await window(prepared_url, chat(2), max_tokens)
    assert (words(found), found.dropped) == (expected, 4 - len(expected))


@pytest.mark.parametrize(
    ("last", "expected"),
    [(1, ["q3", "a3"]), (2, ["q3", "a3"]), (3, ["q3", "a3"]), (4, ["q2", "a2", "q3", "a3"]), (99, None)],
)
async def test_a_window_holds_at_most_the_last_messages_and_starts_with_a_question(
    prepared_url: str, last: int, expected: list[str] | None
) -> None:
    found = await window(prepared_url, chat(3), BUDGET, last)
    assert words(found) == (expected or ["q1", "a1", "q2", "a2", "q3", "a3"])


async def test_system_messages_are_always_sent_and_counted_first(prepared_url: str) -> None:
    story = Story()
    story.say("Be brief", "system", tokens=2)
    for number in range(1, 4):
        story.say(f"q{number}", tokens=2)
        story.say(f"a{number}", "assistant", tokens=2)
    found = await window(prepared_url, story, 5 * MESSAGE + REPLY)
    assert (words(found), found.tokens) == (["Be brief", "q2", "a2", "q3", "a3"], 5 * MESSAGE + REPLY)
    assert found.dropped == 2


async def test_system_messages_larger_than_the_budget_leave_room_for_the_last_question(prepared_url: str) -> None:
    story = chat(2)
    rules = "Be brief." * 500
    story.say(rules, "system", tokens=1500)
    found = await window(prepared_url, story, 100)
    assert (words(found), found.dropped) == ([rules, "q2", "a2"], 2)


async def test_a_conversation_without_a_question_is_sent_from_where_it_fits(prepared_url: str) -> None:
    story = Story()
    for number in range(3):
        story.say(f"a{number}", "assistant", tokens=2)
    placeholder, joined = 4 + 3, 4 + 2 + 1 + 2
    budget = placeholder + joined + REPLY
    async with opened(prepared_url) as store:
        await projected(store, story)
        context = Context(store.database, store.log)
        assert words(await sent_context(context, story.id, budget)) == [NO_CONTENT, "a1\n\na2"]
        assert words(await sent_context(context, story.id, budget - 1)) == [NO_CONTENT, "a2"]
        assert words(await sent_context(context, story.id, 0)) == []


async def test_an_empty_conversation_has_an_empty_window(prepared_url: str) -> None:
    assert await window(prepared_url, Story(), BUDGET) == ([], 0, 0)


async def test_deleted_messages_leave_the_window_and_make_room(prepared_url: str) -> None:
    story = chat(3)
    question, reply = story.messages()[2:4]
    story.unsay(question.message_id)
    story.unsay(reply.message_id)
    found = await window(prepared_url, story, 4 * MESSAGE + REPLY)
    assert (words(found), found.dropped) == (["q1", "a1", "q3", "a3"], 0)


async def test_a_deleted_system_message_moves_no_other_message(prepared_url: str) -> None:
    story = Story()
    story.say("Be brief", "system", tokens=10)
    for number in range(4):
        story.say(f"q{number}", tokens=10)
    story.unsay(story.messages()[0].message_id)
    found = await window(prepared_url, story, 4 + 2 + 1 + 2 + REPLY)
    assert (words(found), found.tokens, found.dropped) == (["q2\n\nq3"], 9 + REPLY, 2)
    before = "SELECT tokens_before, messages_before FROM context ORDER BY version"
    assert rows(prepared_url, before) == [(0, 0), (14, 1), (28, 2), (42, 3)]


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
    story = chat(2)
    story.delete()
    assert await window(prepared_url, story, BUDGET) == ([], 0, 0)


async def test_other_conversations_do_not_change_a_window(prepared_url: str) -> None:
    one, other = chat(2), chat(3)
    async with opened(prepared_url) as store:
        await projected(store, one, other)
        found = await sent_context(Context(store.database, store.log), one.id, BUDGET)
        assert found.tokens == 4 * MESSAGE + REPLY


async def test_messages_with_fewer_tokens_than_estimated_all_fit(prepared_url: str) -> None:
    story = chat(20, tokens=1000)
    found = await window(prepared_url, story, 40 * 7 + REPLY)
    assert (len(found.messages), found.dropped) == (40, 0)
    assert found.tokens <= 40 * 7 + REPLY


async def test_reasoning_that_is_not_sent_counts_no_tokens(prepared_url: str) -> None:
    story = Story()
    for number in range(1, 9):
        story.say(f"q{number}", tokens=2)
        thought = ReasoningBlock(text="Let me think about that. " * 40)
        story.say("", "assistant", content=(thought, TextBlock(text=f"a{number}")), tokens=240)
    found = await window(prepared_url, story, 8 * MESSAGE + REPLY)
    assert words(found) == ["q5", "a5", "q6", "a6", "q7", "a7", "q8", "a8"]


async def test_an_image_counts_a_fixed_number_of_tokens(prepared_url: str) -> None:
    story = Story()
    story.say("q1")
    story.say("", content=(ImageBlock(url="https://example.org/a.png"), TextBlock(text="Look")))
    story.say("a1", "assistant")
    story.say("q2")
    async with opened(prepared_url) as store:
        await projected(store, story)
        context = Context(store.database, store.log)
        whole = await sent_context(context, story.id, 2000)
        assert (whole.tokens, whole.dropped) == (IMAGE + 4 + 2 + 1 + 2 * MESSAGE + REPLY, 0)
        trimmed = await sent_context(context, story.id, whole.tokens - 5)
        assert (words(trimmed), trimmed.dropped) == (["q2"], 3)


@st.composite
def conversations(draw: st.DrawFn) -> Story:
    story = Story()
    for _ in range(draw(st.integers(0, 14))):
        role, content = draw(st.sampled_from(CONTENTS))
        story.say("x", role, content=content, tokens=draw(st.integers(0, 9)))
        if draw(st.integers(0, 5)) == 0:
            there = {event.message_id for event in story.messages()} - _deleted(story.events)
            story.unsay(draw(st.sampled_from(sorted(there))))
    return story


def _deleted(events: Sequence[ConversationEvent]) -> set[Any]:
    return {getattr(event, "message_id", None) for event in events if type(event).__name__ == "MessageDeleted"}


async def test_any_window_of_any_conversation_equals_a_naive_search(prepared_url: str) -> None:
    stories: list[Story] = []

    @settings(max_examples=60, database=None)
    @given(conversations())
    def collect(story: Story) -> None:
        stories.append(story)

    collect()
    async with opened(prepared_url) as store:
        await projected(store, *stories)
        context = Context(store.database, store.log)
        for number, story in enumerate(stories):
            for max_tokens in (0, 5 + number % 7, 20 + number, 60):
                for last in (None, 1 + number % 5):
                    found = await sent_context(context, story.id, max_tokens, last)
                    assert found == naive_window(story.events, max_tokens, last)
                    check_openai(found.messages)


class WatchedDatabase(Database):
    """A database that records its queries."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.queries: list[tuple[Statement, Any]] = []

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        self.queries.append((statement, parameters))
        return await super().fetch(statement, parameters)


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a plan that read a table."""
    found = [plan] if "Relation Name" in plan else []
    return [*found, *(node for inner in plan.get("Plans", ()) for node in scans(inner))]


def rows_read(node: dict[str, Any]) -> float:
    """Return the number of rows a scan read, including the filtered ones."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


@pytest.mark.parametrize("last", [None, 10])
async def test_the_window_of_ten_thousand_messages_reads_few_more_rows_than_it_sends(
    prepared_url: str, last: int | None
) -> None:
    story = chat(5000)
    story.say("Be brief", "system", tokens=1)
    async with opened(prepared_url) as store:
        await projected(store, story, *(chat(3) for _ in range(100)))
    rows(prepared_url, "ANALYZE")
    database = WatchedDatabase(prepared_url)
    await database.open()
    found = await sent_context(Context(database, Log(database)), story.id, 40 * 7 + MESSAGE + REPLY, last)
    await database.close()
    assert len(found.messages) == (41 if last is None else 11)

    read = 0.0
    with psycopg.connect(prepared_url, options="-c search_path=turnlog") as connection:
        for statement, parameters in database.queries:
            explain = b"EXPLAIN (ANALYZE, FORMAT JSON) " + (
                statement if isinstance(statement, bytes) else statement.encode()
            )
            plan = connection.execute(explain, parameters).fetchone()
            assert plan is not None
            for scan in scans(cast(list[dict[str, Any]], plan[0])[0]["Plan"]):
                assert scan["Node Type"] != "Seq Scan", json.dumps(scan)
                read += rows_read(scan)
    assert read < 6 * len(found.messages)
