"""Verification compares the read models with the log row by row while both change."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg import sql

from projections.catalog import PROJECTIONS
from projections.errors import RebuildRunningError
from projections.rebuild import catch_up, locks, plan
from projections.rebuild.verify import verify
from tests.support.histories.builders import Story
from tests.support.projections import POISON, Titles, TitlesThatCannotFollow
from tests.support.rebuilding import (
    build_records,
    caught_up,
    in_threads,
    locked,
    opened_builder,
    prepared_url,
    run_turnlog,
)
from tests.support.store import PATIENCE_S, Store, blocked_backend, opened, rows, until

__all__ = ["in_threads", "prepared_url"]
pytestmark = pytest.mark.usefixtures("in_threads")

IN_ORDER = "SELECT name, version, build, state FROM projections ORDER BY name, version, build"


@pytest.fixture
async def store(prepared_url: str) -> AsyncIterator[Store]:
    async with opened(prepared_url) as store:
        yield store


async def project_stories(store: Store, count: int = 3) -> list[Story]:
    """Record some conversations, each with a running turn, and project them."""
    stories = [Story(title=f"Story {number}") for number in range(count)]
    for story in stories:
        story.ask()
        story.complete("Because")
        story.ask()
        story.stream("Be")
        await store.append(story.events)
    await caught_up(store, *PROJECTIONS, Titles())
    return stories


async def verified(conninfo: str, *arguments: str) -> tuple[int, str, str]:
    return await asyncio.to_thread(run_turnlog, conninfo, "verify", *arguments)


async def test_correct_read_models_verify_as_the_same(store: Store, prepared_url: str) -> None:
    await project_stories(store)
    before = rows(prepared_url, IN_ORDER)
    code, out, err = await verified(prepared_url, "--all")
    assert (code, err) == (0, "")
    assert out.count("all the same") == len(PROJECTIONS)
    assert "history at position 24: 21 rows, all the same.\n" in out
    assert rows(prepared_url, IN_ORDER) == before
    assert build_records(prepared_url, "history").tables == ["history_v3_1"]


CORRUPTIONS = {
    "different": "UPDATE listing_v3_1 SET title = 'forged' WHERE conversation_id = {}",
    "missing": "DELETE FROM listing_v3_1 WHERE conversation_id = {}",
    "unexpected": (
        "INSERT INTO listing_v3_1 (conversation_id, owner_id, metadata, message_count, created_at, updated_at,"
        " active_at, version, deleted, waiting, queued, title_key) SELECT {}, owner_id, metadata, message_count,"
        " created_at, updated_at, active_at, version, deleted, waiting, queued, title_key FROM listing_v3_1 LIMIT 1"
    ),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
async def test_a_wrong_row_is_named_by_its_key(store: Store, prepared_url: str, kind: str) -> None:
    stories = await project_stories(store)
    id_ = Story().id if kind == "unexpected" else stories[1].id
    statement = sql.SQL(CORRUPTIONS[kind]).format(sql.Literal(str(id_)))  # pyright: ignore[reportArgumentType]
    rows(prepared_url, statement)  # pyright: ignore[reportArgumentType]
    code, out, err = await verified(prepared_url, "listing", "history")
    assert (code, err) == (3, "")
    assert "listing at position 24: 1 of 3 rows differ.\n" in out
    assert f'  {kind:<10} listing {{"conversation_id":"{id_}"}}\n' in out
    assert "history at position 24: 21 rows, all the same.\n" in out
    again = await verified(prepared_url, "history")
    assert again[0] == 0


async def test_many_differences_are_counted_and_the_first_are_named(store: Store, prepared_url: str) -> None:
    await project_stories(store, 25)
    rows(prepared_url, "UPDATE listing_v3_1 SET version = 0")
    code, out, _ = await verified(prepared_url, "listing")
    assert (code, out.count("  different  listing")) == (3, 20)
    assert out.endswith("  and 5 more\n")


async def test_verification_finds_no_difference_while_events_are_written(
    store: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "CAUGHT_UP_EVENTS", 100)
    monkeypatch.setattr(plan, "PART_EVENTS", 100)
    await project_stories(store)
    ended, written = False, 0

    async def write(story: Story) -> None:
        nonlocal written
        await store.append(story.events)
        while not ended:
            for events in (story.ask(), story.stream("Be", "cause"), story.complete("Because")):
                written += len(events)
                await store.append(events)
            await asyncio.sleep(0.005)  # without a pause the verification would get little of the processor

    async with store.projecting(*PROJECTIONS):
        writing = [asyncio.create_task(write(Story())) for _ in range(4)]
        for _ in range(2):
            before = written
            async with opened_builder(prepared_url) as builder:
                found = await verify(builder, PROJECTIONS)
            assert [each.differing for each in found] == [0] * len(PROJECTIONS)
            assert min(each.position for each in found) > 24
            await until(lambda before=before: written > before + 20)
        ended = True
        await asyncio.gather(*writing)


async def test_an_idle_projection_is_verified_up_to_its_position(store: Store, prepared_url: str) -> None:
    await project_stories(store)
    await store.append(Story().events)
    code, out, _ = await verified(prepared_url, "--all")
    assert (code, out.count("at position 24:"), out.count("all the same")) == (0, len(PROJECTIONS), len(PROJECTIONS))


async def test_a_stopped_projection_is_verified_up_to_its_position(store: Store, prepared_url: str) -> None:
    broken = TitlesThatCannotFollow()
    position = 0
    async with store.projecting(broken) as progress:
        for title in ("one", POISON, "three"):
            position = await store.append(Story(title=title).events)
        assert await progress.wait(position, PATIENCE_S) == ["titles"]
    async with opened_builder(prepared_url) as builder:
        (found,) = await verify(builder, [broken])
    assert (found.position, found.rows, found.differing) == (1, 1, 0)


async def test_the_next_verification_removes_the_tables_of_a_killed_one(store: Store, prepared_url: str) -> None:
    await project_stories(store)
    async with opened_builder(prepared_url) as builder:
        started = [await builder.create(each, "scratch") for each in PROJECTIONS]
        await builder.plan(started, 10)
        await builder.load(started[:1])
    assert build_records(prepared_url, "history").plans > 0
    code, out, _ = await verified(prepared_url, "--all")
    assert (code, out.count("all the same")) == (0, len(PROJECTIONS))
    for projection in PROJECTIONS:
        found = build_records(prepared_url, projection.name)
        assert (found.builds, found.plans) == ([(projection.name, projection.version, 1, "live")], 0)


async def test_a_changed_table_is_refused_in_one_line(store: Store, prepared_url: str) -> None:
    await project_stories(store)
    rows(prepared_url, "ALTER TABLE listing_v3_1 ADD COLUMN note text")
    code, out, err = await verified(prepared_url, "listing")
    assert (code, out) == (1, "")
    assert err.startswith("Error: PostgreSQL refuses")
    assert "\n" not in err
    assert build_records(prepared_url, "listing").states == [(1, "live")]


async def test_verification_is_refused_during_a_rebuild(store: Store, prepared_url: str) -> None:
    await project_stories(store)
    async with opened_builder(prepared_url) as first, opened_builder(prepared_url) as second:
        await first.claim(PROJECTIONS)
        with pytest.raises(RebuildRunningError):
            await verify(second, PROJECTIONS[1:2])
    assert build_records(prepared_url, "history").builds == [("history", 3, 1, "live")]


async def test_verification_waits_for_a_lock_on_the_projection(
    store: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await project_stories(store)
    monkeypatch.setattr(locks, "LOCK_PAUSE_S", 0.01)
    with locked(prepared_url, "SELECT 1 FROM projections FOR UPDATE") as holder:
        async with opened_builder(prepared_url) as builder:
            found = asyncio.create_task(verify(builder, PROJECTIONS[:1]))
            first = await blocked_backend(prepared_url)
            await until(lambda: blocked(prepared_url) not in ([], [(first,)]))
            holder.rollback()
            assert [each.differing for each in await found] == [0]


def blocked(conninfo: str) -> list[Any]:
    return rows(
        conninfo,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
