"""What turns used is summed by day, model, agent or owner, and stays when a conversation goes."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from domain.events import ConversationEvent, TurnStarted
from projections.catalog import find_projection
from projections.models.usage import UsageReport, UsageSum
from tests.support.builders import Story, usage
from tests.support.store import PATIENCE_S, opened, plant, rows

MARCH, APRIL = datetime(2026, 3, 31, 12, tzinfo=UTC), datetime(2026, 4, 1, 12, tzinfo=UTC)
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


async def sums(conninfo: str, stories: Sequence[Story], by: Any, **wanted: Any) -> list[UsageSum]:
    """Record and project conversations, and sum up what they used."""
    events: list[ConversationEvent] = [event for story in stories for event in story.events]
    async with opened(conninfo) as store:
        async with store.projecting(find_projection("usage")) as progress:
            assert await progress.wait(await store.append(events), PATIENCE_S) == []
        return await UsageReport(store.database).sums(by, **wanted)


async def keys(conninfo: str, stories: Sequence[Story], by: Any, **wanted: Any) -> dict[str | None, int]:
    """Return the number of turns by key."""
    return {found.key: found.turns for found in await sums(conninfo, stories, by, **wanted)}


def mixed() -> list[Story]:
    """Return five turns: three of alice, two of bob; three in March, two in April; three of gpt-4o, two of haiku."""
    return [
        answered(answered(Story(begins=MARCH), "gpt-4o"), "haiku"),
        answered(Story(begins=APRIL, agent_id="support"), "gpt-4o"),
        answered(Story(begins=MARCH, owner="bob", agent_id="sales"), "haiku"),
        answered(Story(begins=APRIL, owner="bob", agent_id="sales"), "gpt-4o"),
    ]


async def test_without_turns_there_is_nothing_to_sum(prepared_url: str) -> None:
    assert await sums(prepared_url, [Story()], "day") == []


async def test_a_sum_has_the_turns_by_their_end_and_the_tokens_and_the_cost_that_are_known(prepared_url: str) -> None:
    story = answered(answered(Story(), "gpt-4o", "0.0012"), "gpt-4o")
    answered(story, "gpt-4o", "0.0000003")
    asked(story, "gpt-4o").fail("Hm")
    asked(story, "gpt-4o").cancel()
    asked(story, "gpt-4o").complete()
    asked(story, "gpt-4o")
    (found,) = await sums(prepared_url, [story], "model")
    assert found[:5] == ("gpt-4o", 7, 4, 1, 1)
    assert found[5:9] == (30, 15, 6, 3)
    assert found.cost_usd == Decimal("0.0012003")


async def test_what_nobody_knows_is_none(prepared_url: str) -> None:
    story = asked(Story(), "gpt-4o")
    story.fail()
    (found,) = await sums(prepared_url, [asked(story, "gpt-4o")], "model")
    assert found == ("gpt-4o", 2, 0, 1, 0, *[None] * 9)


async def test_percentiles_are_of_the_turns_that_were_timed(prepared_url: str) -> None:
    story = Story()
    for duration_ms in (100.0, 200.0, 300.0, 400.0, 500.0):
        answered(story, "gpt-4o", duration_ms=duration_ms)
    (found,) = await sums(prepared_url, [answered(story, "gpt-4o")], "model")
    assert (found.duration_p50_ms, found.duration_p95_ms) == (300.0, pytest.approx(480.0))
    assert (found.time_to_first_token_p50_ms, found.time_to_first_token_p95_ms) == (30.0, pytest.approx(48.0))


@pytest.mark.parametrize(
    ("by", "turns"),
    [
        ("day", {"2026-03-31": 3, "2026-04-01": 2}),
        ("model", {"gpt-4o": 3, "haiku": 2}),
        ("agent", {"sales": 2, "support": 1, None: 2}),
        ("owner", {"alice": 3, "bob": 2}),
    ],
)
async def test_usage_is_summed_by_each_dimension_in_order(prepared_url: str, by: str, turns: dict[Any, int]) -> None:
    found = await keys(prepared_url, mixed(), by)
    assert list(found.items()) == list(turns.items())


@pytest.mark.parametrize(
    ("wanted", "turns"),
    [
        ({"since": date(2026, 4, 1)}, {"gpt-4o": 2}),
        ({"until": date(2026, 3, 31)}, {"gpt-4o": 1, "haiku": 2}),
        ({"since": date(2026, 3, 31), "until": date(2026, 4, 1)}, {"gpt-4o": 3, "haiku": 2}),
        ({"since": date(2026, 4, 2)}, {}),
        ({"owner_id": "bob"}, {"gpt-4o": 1, "haiku": 1}),
        ({"owner_id": "bob", "until": date(2026, 3, 31)}, {"haiku": 1}),
        ({"owner_id": "nobody"}, {}),
    ],
)
async def test_usage_is_of_the_days_and_the_owner_that_are_asked_for(
    prepared_url: str, wanted: dict[str, Any], turns: dict[str, int]
) -> None:
    assert await keys(prepared_url, mixed(), "model", **wanted) == turns


async def test_a_turn_counts_for_the_day_on_which_it_started(prepared_url: str) -> None:
    story = answered(Story(begins=BEFORE_MIDNIGHT), "gpt-4o")
    assert story.events[-1].timestamp.date() == date(2026, 4, 1)
    assert await keys(prepared_url, [story], "day") == {"2026-03-31": 1}


async def test_what_a_deleted_conversation_used_still_counts(prepared_url: str) -> None:
    gone, running = answered(Story(), "gpt-4o", "0.5"), asked(Story(), "gpt-4o")
    gone.delete()
    running.delete()
    (found,) = await sums(prepared_url, [gone, running], "owner")
    assert (found.key, found.turns, found.completed, found.cost_usd) == ("alice", 2, 1, Decimal("0.5"))


async def test_a_turn_of_a_conversation_that_never_started_is_refused_and_not_lost(prepared_url: str) -> None:
    story = answered(Story(), "gpt-4o")
    async with opened(prepared_url) as store, store.projecting(find_projection("usage")) as progress:
        plant(prepared_url, story.events[1:])
        await store.feed.refresh()
        assert await progress.wait(store.feed.head, PATIENCE_S) == ["usage"]
    assert rows(prepared_url, "SELECT error_position FROM projections WHERE name = 'usage'") == [(2,)]
