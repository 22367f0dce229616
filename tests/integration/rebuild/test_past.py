"""Read models as of a past position or time, in a schema of their own."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from domain.events import ConversationEvent
from projections.catalog import PROJECTIONS
from projections.errors import ProjectionFailedError, RebuildRunningError
from projections.rebuild import loading, past
from projections.rebuild.builder import Builder
from projections.rebuild.loading import Source
from projections.rebuild.past import build_past
from projections.rebuild.plan import cut_into_parts
from tests.support.histories.builders import Story, one_of_each
from tests.support.histories.histories import histories
from tests.support.projections import POISON, Titles, TitlesThatCannotLoad
from tests.support.rebuilding import (
    build_records,
    check_read_models,
    in_threads,
    locked,
    opened_builder,
    prepared_url,
    run_turnlog,
    store,
)
from tests.support.store import Store, opened, rows, until, value

__all__ = ["in_threads", "prepared_url", "store"]
pytestmark = pytest.mark.usefixtures("in_threads")

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')"


def schemas(conninfo: str) -> set[str]:
    return {row[0] for row in rows(conninfo, SCHEMAS)}


async def built(conninfo: str, when: object, schema: str = "past") -> tuple[int, str, str]:
    return await asyncio.to_thread(run_turnlog, conninfo, "build", "--as-of", str(when), "--schema", schema)


_all_events: dict[str, list[ConversationEvent]] = {}


@settings(
    max_examples=5,
    phases=[Phase.generate],  # the examples share a log, which cannot be emptied
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=histories(), place=st.integers(0, 10**6))
def test_any_history_cut_at_any_place_equals_a_naive_reading_of_it(
    prepared_url: str, events: list[ConversationEvent], place: int
) -> None:
    """Use parts of a few events.

    A turn may run at the cut and have ended since.
    """
    before = _all_events.setdefault(prepared_url, [])
    before += events
    position = place % len(before) + 1

    async def build() -> None:
        async with opened(prepared_url, listening=False) as store:
            await store.append(events)
        async with opened_builder(prepared_url) as builder:
            assert (await build_past(builder, PROJECTIONS, position, "past")).position == position

    asyncio.run(build())
    try:
        check_read_models(prepared_url, before[:position], "past")
    finally:
        rows(prepared_url, "DROP SCHEMA past CASCADE")


async def test_the_read_models_of_every_position_and_time_can_be_queried(store: Store, prepared_url: str) -> None:
    events = one_of_each()
    for event in events:
        await store.append([event])
    registry = rows(prepared_url, "SELECT * FROM projections")
    code, out, err = await built(prepared_url, 9)
    assert (code, err) == (0, "")
    assert "as of position 9 is in schema past: listing, history, turns, stream_text, context" in out
    assert value(prepared_url, "SELECT message_count FROM past.listing WHERE NOT deleted") == 2
    check_read_models(prepared_url, events[:9], "past")

    for number, event in enumerate((events[0], events[7], events[-1])):
        at = event.timestamp + timedelta(microseconds=number)
        assert (await built(prepared_url, at.isoformat(), f"at_{number}"))[0] == 0
        check_read_models(prepared_url, [each for each in events if each.timestamp <= at], f"at_{number}")
    assert (await built(prepared_url, len(events), "head"))[0] == 0
    check_read_models(prepared_url, events, "head")
    assert rows(prepared_url, "SELECT * FROM projections") == registry
    assert value(prepared_url, "SELECT count(*) FROM rebuilds") == 0
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND connamespace = 'past'::regnamespace"
    assert value(prepared_url, keys) == sum(len(each.tables) for each in PROJECTIONS)


@pytest.mark.parametrize("when", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "-1", "1.5", "2026-13-01T00:00Z"])
async def test_an_invalid_moment_is_a_usage_error(store: Store, prepared_url: str, when: str) -> None:
    await store.append(Story().events)
    code, out, err = await built(prepared_url, when)
    assert (code, out, "--as-of" in err, err.count("\n")) == (2, "", True, 0)


@pytest.mark.parametrize("schema", ["pg_past", "Past", "1st", "a b", "a" * 41, "", "x;y"])
async def test_an_invalid_schema_name_is_a_usage_error(prepared_url: str, schema: str) -> None:
    code, out, err = await built(prepared_url, 1, schema)
    assert (code, out, "--schema" in err, err.count("\n")) == (2, "", True, 0)


@pytest.mark.parametrize("when", ["0", "2026-01-02T03:04:05Z"])
async def test_a_moment_before_the_first_event_is_refused(store: Store, prepared_url: str, when: str) -> None:
    await store.append(Story().events)
    code, out, err = await built(prepared_url, when)
    assert (code, out, err.startswith("Error: Nothing was recorded up to")) == (1, "", True)
    assert schemas(prepared_url) == {"turnlog"}


@pytest.mark.parametrize("when", [2, 10**30, "2999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-12:00"])
async def test_a_moment_beyond_the_end_of_the_log_is_refused(store: Store, prepared_url: str, when: int | str) -> None:
    await store.append(Story().events[:1])
    code, out, err = await built(prepared_url, when)
    assert (code, out, err.count("\n")) == (1, "", 0)
    assert err.endswith("is beyond the end of the log, which is at position 1 now.")
    assert schemas(prepared_url) == {"turnlog"}


async def test_a_past_time_after_the_last_event_is_that_of_the_head(store: Store, prepared_url: str) -> None:
    events = Story().events
    await store.append(events)
    assert (await built(prepared_url, datetime.now(UTC).isoformat()))[0] == 0
    check_read_models(prepared_url, events, "past")


@pytest.mark.parametrize("schema", ["mine", "turnlog"])
async def test_an_existing_schema_is_left_unchanged(store: Store, prepared_url: str, schema: str) -> None:
    await store.append(Story().events)
    rows(prepared_url, "CREATE SCHEMA mine CREATE TABLE listing (note text)")
    code, out, err = await built(prepared_url, 1, schema)
    assert (code, out) == (1, "")
    assert err == f"Error: There is a schema {schema} already; choose another name or drop it."
    assert value(prepared_url, "SELECT count(*) FROM mine.listing") == 0
    assert schemas(prepared_url) == {"turnlog", "mine"}


async def test_a_foreign_schema_is_not_replaced_as_an_unfinished_one(store: Store, prepared_url: str) -> None:
    await store.append(Story().events)
    rows(prepared_url, "CREATE SCHEMA past_unfinished CREATE TABLE mine (note text)")
    code, _, err = await built(prepared_url, 1)
    assert (code, "past_unfinished" in err) == (1, True)
    assert value(prepared_url, "SELECT count(*) FROM past_unfinished.mine") == 0


async def test_a_killed_build_does_not_block_the_next(
    store: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [*one_of_each(), *one_of_each()]
    await store.append(events)

    async def fill_half(builder: Builder, *arguments: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(builder.workers, "run", partial(_until_finish, builder.workers.run))
            await past._fill(builder, *arguments)  # pyright: ignore[reportArgumentType]

    async def _until_finish(work: object, job: partial[None]) -> None:
        if job.func is loading.index_build:
            raise KilledError
        await work(job)  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]

    async with opened_builder(prepared_url) as builder:
        with pytest.raises(KilledError):
            await fill_half(builder, PROJECTIONS, "past_unfinished", 20)
    assert schemas(prepared_url) == {"turnlog", "past_unfinished"}
    assert (await built(prepared_url, 20))[0] == 0
    check_read_models(prepared_url, events[:20], "past")
    assert schemas(prepared_url) == {"turnlog", "past"}


class KilledError(Exception):
    pass


async def test_an_event_that_a_projection_refuses_leaves_no_schema(store: Store, prepared_url: str) -> None:
    titles = ["one", "two", POISON, *map(str, range(30))]
    await store.append([Story(title=title).events[0] for title in titles])
    async with opened_builder(prepared_url) as builder:
        with pytest.raises(ProjectionFailedError, match="position 3: ValueError"):
            await build_past(builder, [*PROJECTIONS, TitlesThatCannotLoad()], 20, "past")
        assert schemas(prepared_url) == {"turnlog"}
        assert build_records(prepared_url, "titles").builds == [("titles", 1, 1, "live")]
        assert value(prepared_url, "SELECT count(*) FROM titles") == 0
        assert (await build_past(builder, [Titles()], 20, "past")).names == ["titles"]
    assert value(prepared_url, "SELECT count(*) FROM past.titles") == 20


async def test_a_late_write_to_a_dropped_schema_does_not_reach_the_live_build(store: Store, prepared_url: str) -> None:
    """The tables of a build 1 have the same names in both."""
    await store.append(Story(title="one").events)
    source = Source(prepared_url, "turnlog", 1, into="gone")
    async with opened_builder(prepared_url) as builder:
        (part,) = await cut_into_parts(builder.connection, 1)
    for projection in (PROJECTIONS[0], Titles()):
        with pytest.raises(Exception, match="does not exist"):
            loading.load_part(source, [projection], part)
    assert value(prepared_url, "SELECT count(*) FROM titles") == 0


async def test_two_builds_of_one_schema_do_not_run_concurrently(store: Store, prepared_url: str) -> None:
    await store.append(Story().events)
    async with opened_builder(prepared_url) as first, opened_builder(prepared_url) as second:
        with locked(prepared_url, "LOCK TABLE events IN ACCESS EXCLUSIVE MODE") as holder:
            building = asyncio.create_task(build_past(first, PROJECTIONS, 1, "past"))
            await until(lambda: "past_unfinished" in schemas(prepared_url))
            with pytest.raises(RebuildRunningError):
                await build_past(second, PROJECTIONS, 1, "past")
            holder.rollback()
            await building
    assert schemas(prepared_url) == {"turnlog", "past"}
