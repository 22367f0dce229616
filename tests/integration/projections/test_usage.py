"""The usage has a row for each turn, also after the conversation is deleted."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, LiteralString

from domain.events import ConversationEvent, TurnStarted
from projections.catalog import find_projection
from tests.support.histories.builders import Story, usage
from tests.support.store import PATIENCE_S, opened, plant, rows

BEFORE_MIDNIGHT = datetime(2026, 3, 31, 23, 59, 57, tzinfo=UTC)


def with_running_turn(story: Story, model: str) -> Story:
    """Start a turn with a model of its own."""
    story.ask()
    started = story.events[-1]
    assert isinstance(started, TurnStarted)
    story.events[-1] = started.model_copy(update={"model": model})
    return story


def with_completed_turn(
    story: Story, model: str, cost_usd: str | None = None, duration_ms: float | None = None
) -> Story:
    """Add a turn that completed with 10 input tokens and 5 output tokens.

    Of these, 2 are cached and 1 is for reasoning.
    """
    used = usage(cached_input_tokens=2, reasoning_tokens=1, cost_usd=None if cost_usd is None else Decimal(cost_usd))
    first = None if duration_ms is None else duration_ms / 10
    with_running_turn(story, model).complete(usage=used, time_to_first_token_ms=first, duration_ms=duration_ms)
    return story


async def usage_of(conninfo: str, stories: Sequence[Story], columns: LiteralString) -> list[tuple[Any, ...]]:
    """Record and project conversations.

    Return columns of their turns in the order of their starts.
    """
    events: list[ConversationEvent] = [event for story in stories for event in story.events]
    turns = [event.turn_id for event in events if isinstance(event, TurnStarted)]
    async with opened(conninfo) as store, store.projecting(find_projection("usage")) as progress:
        assert await progress.wait(await store.append(events), PATIENCE_S) == []
    return rows(conninfo, "SELECT " + columns + " FROM usage ORDER BY array_position(%s::uuid[], turn_id)", [turns])


async def test_without_turns_there_is_no_row(prepared_url: str) -> None:
    assert await usage_of(prepared_url, [Story()], "turn_id") == []


async def test_a_turn_has_its_end_and_its_known_tokens_and_cost(prepared_url: str) -> None:
    story = with_completed_turn(with_completed_turn(Story(), "gpt-4o", "0.0000003"), "gpt-4o")
    with_running_turn(story, "gpt-4o").fail("Hm")
    with_running_turn(story, "haiku").cancel()
    with_running_turn(story, "gpt-4o").complete()
    with_running_turn(story, "gpt-4o")
    columns = "model, status, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd"
    assert await usage_of(prepared_url, [story], columns) == [
        ("gpt-4o", "completed", 10, 5, 2, 1, Decimal("0.0000003")),
        ("gpt-4o", "completed", 10, 5, 2, 1, None),
        ("gpt-4o", "failed", None, None, None, None, None),
        ("haiku", "cancelled", None, None, None, None, None),
        ("gpt-4o", "completed", None, None, None, None, None),
        ("gpt-4o", "running", None, None, None, None, None),
    ]


async def test_a_turn_has_its_measured_times(prepared_url: str) -> None:
    story = with_completed_turn(with_completed_turn(Story(), "gpt-4o", duration_ms=100.0), "gpt-4o")
    assert await usage_of(prepared_url, [story], "time_to_first_token_ms, duration_ms") == [(10.0, 100.0), (None, None)]


async def test_a_turn_has_the_owner_and_the_agent_of_its_conversation(prepared_url: str) -> None:
    stories = [
        with_completed_turn(Story(), "gpt-4o"),
        with_completed_turn(Story(owner="bob", agent_id="sales"), "gpt-4o"),
    ]
    assert await usage_of(prepared_url, stories, "owner_id, agent_id") == [("alice", None), ("bob", "sales")]


async def test_a_turn_counts_for_the_day_of_its_start(prepared_url: str) -> None:
    story = with_completed_turn(Story(begins=BEFORE_MIDNIGHT), "gpt-4o")
    assert story.events[-1].timestamp.date() == date(2026, 4, 1)
    assert await usage_of(prepared_url, [story], "day") == [(date(2026, 3, 31),)]


async def test_the_usage_of_a_deleted_conversation_still_counts(prepared_url: str) -> None:
    deleted, running = with_completed_turn(Story(), "gpt-4o", "0.5"), with_running_turn(Story(), "gpt-4o")
    deleted.delete()
    running.delete()
    found = await usage_of(prepared_url, [deleted, running], "owner_id, status, cost_usd")
    assert found == [("alice", "completed", Decimal("0.5")), ("alice", "cancelled", None)]


async def test_a_turn_of_a_conversation_that_never_started_is_refused(prepared_url: str) -> None:
    story = with_completed_turn(Story(), "gpt-4o")
    async with opened(prepared_url) as store, store.projecting(find_projection("usage")) as progress:
        plant(prepared_url, story.events[1:])
        await store.feed.refresh()
        assert await progress.wait(store.feed.head, PATIENCE_S) == ["usage"]
    assert rows(prepared_url, "SELECT error_position FROM projections WHERE name = 'usage'") == [(2,)]
