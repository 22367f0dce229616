"""A rebuild of any log, interrupted anywhere, gives the rows that the log implies."""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from domain.events import ConversationEvent, StreamDelta
from projections.catalog import PROJECTIONS
from projections.errors import (
    BuildFailedError,
    BuildInterruptedError,
    ProjectionFailedError,
    RebuildRunningError,
)
from projections.projection import Projection
from projections.rebuild import catch_up, locks
from projections.rebuild.plan import Part
from projections.rebuild.rebuild import rebuild
from tests.support.histories.builders import Story, one_of_each
from tests.support.histories.histories import histories
from tests.support.projections import (
    POISON,
    Titles,
    TitlesThatCannotBeStored,
    TitlesThatCannotFollow,
    TitlesThatCannotLoad,
    TitlesWithoutAnIndex,
    TitlesWithoutATable,
)
from tests.support.rebuilding import (
    build_records,
    caught_up,
    check_read_models,
    in_threads,
    loaded,
    locked,
    opened_builder,
    prepared_url,
    run_turnlog,
    store,
    stories,
)
from tests.support.store import Store, opened, rows, until, value

__all__ = ["in_threads", "loaded", "prepared_url", "store"]
pytestmark = pytest.mark.usefixtures("in_threads")


@settings(
    max_examples=5,
    phases=[Phase.generate],  # the examples share a log, which cannot be emptied
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=histories(), cut=st.integers(0, 10**6), most=st.integers(1, 7))
def test_any_history_is_rebuilt_for_any_cut(
    prepared_url: str, monkeypatch: pytest.MonkeyPatch, events: list[ConversationEvent], cut: int, most: int
) -> None:
    """Load events up to the cut in parts, then follow in batches of `most`."""
    monkeypatch.setattr(catch_up, "BATCH_EVENTS", most)
    before = _all_events.setdefault(prepared_url, [])
    cut %= len(events) + 1

    async def load_and_follow() -> None:
        async with opened(prepared_url, listening=False) as store:
            if events[:cut]:
                await store.append(events[:cut])
            async with opened_builder(prepared_url) as builder:
                planned = [await builder.create(each, "building") for each in PROJECTIONS]
                await builder.plan(planned, cut)
            if events[cut:]:
                await store.append(events[cut:])
            async with opened_builder(prepared_url) as builder:
                await rebuild(builder, PROJECTIONS)
            await caught_up(store)

    asyncio.run(load_and_follow())
    before += events
    check_read_models(prepared_url, before)


_all_events: dict[str, list[ConversationEvent]] = {}


async def test_an_empty_log_can_be_rebuilt(store: Store, prepared_url: str) -> None:
    async with opened_builder(prepared_url) as builder:
        switched = await rebuild(builder, PROJECTIONS)
    assert [(each.projection.build, each.compared and each.compared.differing) for each in switched] == [
        (2, 0) for _ in PROJECTIONS
    ]
    events = one_of_each()
    await store.append(events)
    await caught_up(store)
    check_read_models(prepared_url, events)


async def test_deltas_of_ended_turns_are_not_loaded(store: Store, prepared_url: str) -> None:
    events = stories(3)
    await store.append(events)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, PROJECTIONS)
    assert sum(isinstance(event, StreamDelta) for event in events) == 6
    assert value(prepared_url, "SELECT count(*) FROM stream_text") == 3


async def test_a_second_rebuild_of_a_projection_is_refused(store: Store, prepared_url: str) -> None:
    await store.append(stories(2))
    async with opened_builder(prepared_url) as first, opened_builder(prepared_url) as second:
        await first.claim(PROJECTIONS[:1])
        with pytest.raises(RebuildRunningError):
            await rebuild(second, PROJECTIONS)
        assert build_records(prepared_url, "listing").states == [(1, "live")]
        refused = await asyncio.to_thread(run_turnlog, prepared_url, "rebuild", "listing")
        assert refused == (1, "", "Error: A rebuild or verification of listing is running already.")
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, PROJECTIONS)


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        (TitlesThatCannotLoad, ProjectionFailedError, "position 3: ValueError"),
        (TitlesThatCannotFollow, ProjectionFailedError, "position 5: ValueError"),
        (TitlesThatCannotBeStored, BuildFailedError, "invalid input syntax for type uuid"),
        (TitlesWithoutATable, BuildFailedError, "syntax error"),
        (TitlesWithoutAnIndex, BuildFailedError, "could not create unique index"),
    ],
)
async def test_a_failed_build_leaves_nothing_behind_and_the_live_one_unchanged(
    store: Store, prepared_url: str, broken: type[Projection], error: type[Exception], message: str
) -> None:
    titles = ["one", "two", POISON, "four"]
    await store.append([Story(title=title).events[0] for title in titles])
    async with store.projecting(*PROJECTIONS, Titles()) as progress:
        assert await progress.wait(4, 20) == []
    before = [build_records(prepared_url, name) for name in ("listing", "titles")]
    if broken is TitlesThatCannotFollow:
        async with opened_builder(prepared_url) as builder:
            await builder.plan([await builder.create(each, "building") for each in (PROJECTIONS[0], broken())], 4)
        await store.append(Story(title=POISON).events)
    async with opened_builder(prepared_url) as builder:
        with pytest.raises(error, match=message) as raised:
            await rebuild(builder, [PROJECTIONS[0], broken()])
    assert "\n" not in str(raised.value)
    listing, titles_left = (build_records(prepared_url, name) for name in ("listing", "titles"))
    assert titles_left == before[1]
    if broken is TitlesThatCannotBeStored:  # the rows of the titles were loaded together with those of the listing
        assert listing == before[0]
    else:
        assert listing.states == [(1, "kept"), (2, "live")]
    assert value(prepared_url, "SELECT count(*) FROM titles") == 4

    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, [PROJECTIONS[0], Titles()])
    assert build_records(prepared_url, "titles").builds == [("titles", 1, 1, "kept"), ("titles", 1, 2, "live")]
    assert value(prepared_url, "SELECT count(*) FROM titles") == value(prepared_url, "SELECT position FROM head")


async def test_a_switch_waits_for_readers_and_lets_new_reads_pass(
    store: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(stories(2))
    pauses: list[float] = []
    monkeypatch.setattr(locks, "LOCK_PAUSE_S", 0.01)
    with locked(prepared_url, "SELECT * FROM listing") as reader:
        async with opened_builder(prepared_url) as builder:
            rebuilt = asyncio.create_task(rebuild(builder, PROJECTIONS))
            waits = (
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE OR REPLACE%%'"
            )
            seen: set[int] = set()
            await until(lambda: seen.update(row[0] for row in rows(prepared_url, waits, [])) or len(seen) > 1)
            for _ in range(3):
                pauses += rows(prepared_url, "SELECT count(*) FROM listing")
            assert not rebuilt.done()
            reader.rollback()
            await rebuilt
    assert build_records(prepared_url, "listing").states[-1] == (2, "live")


async def test_a_switch_that_times_out_keeps_the_build_for_the_next_run(
    store: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[list[str], Part]]
) -> None:
    await store.append(stories(2))
    monkeypatch.setattr(locks, "LOCK_PAUSE_S", 0.01)
    monkeypatch.setattr(locks, "LOCK_ATTEMPTS", 2)
    with locked(prepared_url, "SELECT * FROM listing"):
        async with opened_builder(prepared_url) as builder:
            with pytest.raises(BuildInterruptedError, match="holds a lock"):
                await rebuild(builder, PROJECTIONS[:1])
    parts = len(loaded)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, PROJECTIONS[:1])
    assert len(loaded) == parts
    assert build_records(prepared_url, "listing").states[-1] == (2, "live")
