"""The usage has a row for each turn, and keeps it when the conversation is deleted."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, LiteralString

from domain.events import ConversationEvent, TurnStarted
from projections.catalog import find_projection
from tests.support.histories.builders import Story, usage
from tests.support.store import PATIENCE_S, opened, plant, rows

BEFORE_MIDNIGHT = datetime(2026, 3, 31, 23, 59, 57, tzinfo=UTC)


def asked(story: Story, model: str) -> Story:
    """Start a turn of a model of its own."""
    story.ask()
    started = story.events[-1]
    assert isinstance(started, TurnStarted)
    story.events[-1] = started.model_copy(update={"model": model})
    return story


def answered(story: Story, model: str, cost_usd: str | None = None, duration_ms: float | None = None) -> Story:
    """Add a turn that was answered with 10 tokens (2 of them cached) and 5 (1 of them for reasoning)."""
    used = usage(cached_input_tokens=2, reasoning_tokens=1, cost_usd=None if cost_usd is None else Decimal(cost_usd))
    first = None if duration_ms is None else duration_ms / 10
    asked(story, model).complete(usage=used, time_to_first_token_ms=first, duration_ms=duration_ms)
    return story


async def usage_of(conninfo: str, stories: Sequence[Story], columns: LiteralString) -> list[tuple[Any, ...]]:
    """Record and project conversations, and return columns of the turns in the order of their starts."""
    events: list[ConversationEvent] = [event for story in stories for event in story.events]
    turns = [event.turn_id for event in events if isinstance(event, TurnStarted)]
    async with opened(conninfo) as store, store.projecting(find_projection("usage")) as progress:
        assert await progress.wait(await store.append(events), PATIENCE_S) == []
    return rows(conninfo, "SELECT " + columns + " FROM usage ORDER BY array_position(%s::uuid[], turn_id)", [turns])


async def test_without_turns_there_is_no_row(prepared_url: str) -> None:
    assert await usage_of(prepared_url, [Story()], "turn_id") == []


async def test_a_turn_has_its_end_and_the_tokens_and_the_cost_that_are_known(prepared_url: str) -> None:
    story = answered(answered(Story(), "gpt-4o", "0.0000003"), "gpt-4o")
    asked(story, "gpt-4o").fail("Hm")
    asked(story, "haiku").cancel()
    asked(story, "gpt-4o").complete()
    asked(story, "gpt-4o")
    columns = "model, status, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd"
    assert await usage_of(prepared_url, [story], columns) == [
        ("gpt-4o", "completed", 10, 5, 2, 1, Decimal("0.0000003")),
        ("gpt-4o", "completed", 10, 5, 2, 1, None),
        ("gpt-4o", "failed", None, None, None, None, None),
        ("haiku", "cancelled", None, None, None, None, None),
        ("gpt-4o", "completed", None, None, None, None, None),
        ("gpt-4o", "running", None, None, None, None, None),
    ]


async def test_a_turn_has_its_times_where_they_were_measured(prepared_url: str) -> None:
    story = answered(answered(Story(), "gpt-4o", duration_ms=100.0), "gpt-4o")
    assert await usage_of(prepared_url, [story], "time_to_first_token_ms, duration_ms") == [(10.0, 100.0), (None, None)]


async def test_a_turn_has_the_owner_and_the_agent_of_its_conversation(prepared_url: str) -> None:
    stories = [answered(Story(), "gpt-4o"), answered(Story(owner="bob", agent_id="sales"), "gpt-4o")]
    assert await usage_of(prepared_url, stories, "owner_id, agent_id") == [("alice", None), ("bob", "sales")]


async def test_a_turn_counts_for_the_day_on_which_it_started(prepared_url: str) -> None:
    story = answered(Story(begins=BEFORE_MIDNIGHT), "gpt-4o")
    assert story.events[-1].timestamp.date() == date(2026, 4, 1)
    assert await usage_of(prepared_url, [story], "day") == [(date(2026, 3, 31),)]


async def test_what_a_deleted_conversation_used_still_counts(prepared_url: str) -> None:
    gone, running = answered(Story(), "gpt-4o", "0.5"), asked(Story(), "gpt-4o")
    gone.delete()
    running.delete()
    found = await usage_of(prepared_url, [gone, running], "owner_id, status, cost_usd")
    assert found == [("alice", "completed", Decimal("0.5")), ("alice", "cancelled", None)]


async def test_a_turn_of_a_conversation_that_never_started_is_refused_and_not_lost(prepared_url: str) -> None:
    story = answered(Story(), "gpt-4o")
    async with opened(prepared_url) as store, store.projecting(find_projection("usage")) as progress:
        plant(prepared_url, story.events[1:])
        await store.feed.refresh()
        assert await progress.wait(store.feed.head, PATIENCE_S) == ["usage"]
    assert rows(prepared_url, "SELECT error_position FROM projections WHERE name = 'usage'") == [(2,)]
