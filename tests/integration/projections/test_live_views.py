"""Two versions of a projection are served side by side until one is pruned."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from projections import engine
from projections.catalog import install
from projections.errors import ProjectionFailedError, ViewInUseError
from projections.models.listing import Listing, ListingProjection
from projections.projection import Projection
from projections.rebuild.rebuild import prune, rebuild, roll_back
from projections.status import read_status
from tests.support.histories.builders import Story
from tests.support.projections import FirstTitles, ListingRenamed, ListingV4
from tests.support.rebuilding import build_records, caught_up, in_threads, opened_builder, prepared_url
from tests.support.store import PATIENCE_S, Store, opened, rows, until, value
from tests.support.waiting import NEVER_S

__all__ = ["in_threads", "prepared_url"]
pytestmark = pytest.mark.usefixtures("in_threads")

OLD, NEW = ListingProjection(), ListingV4()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RETRY_LEAD_S", 0.02)


@pytest.fixture
def story() -> Story:
    story = Story(title="told before")
    story.ask()
    story.complete("Because")
    return story


@pytest.fixture
async def before(prepared_url: str, story: Story) -> None:
    """A log that the old release has written and projected."""
    async with opened(prepared_url, listening=False) as store:
        await store.append(story.events)
        await caught_up(store)


@pytest.fixture
def upgraded_url(prepared_url: str, before: None) -> str:
    return prepared_url


def upgrade(conninfo: str, *projections: Projection) -> None:
    """Install a release twice, as two processes of it do."""
    for _ in range(2):
        install(conninfo, projections=projections)


@pytest.fixture
async def store(upgraded_url: str) -> AsyncIterator[Store]:
    await asyncio.to_thread(upgrade, upgraded_url, NEW)
    async with opened(upgraded_url) as store:
        yield store


def titles(conninfo: str, view: str) -> list[object]:
    statements = {
        "listing": "SELECT title, message_count, last_role FROM listing ORDER BY created_at, conversation_id",
        "listing_v4": "SELECT title, message_count, last_role FROM listing_v4 ORDER BY created_at, conversation_id",
        "listing_v3": "SELECT title, message_count FROM listing_v3 ORDER BY created_at, conversation_id",
    }
    return rows(conninfo, statements[view])  # pyright: ignore[reportArgumentType]


async def test_readers_of_a_new_version_see_the_old_one_until_it_is_built(
    store: Store, upgraded_url: str, story: Story
) -> None:
    assert build_records(upgraded_url, "listing").builds == [("listing", 3, 1, "live"), ("listing", 4, 1, "building")]
    assert titles(upgraded_url, "listing_v4") == [("told before", 2, None)]
    columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'listing'::regclass"
    assert ("last_role",) not in rows(upgraded_url, columns)
    async with store.projecting(OLD) as old, store.projecting(NEW) as new:
        await until(lambda: new.stopped == {"listing"})
        position = await store.append(story.say())
        async with asyncio.timeout(PATIENCE_S):
            assert await new.wait(position, NEVER_S) == ["listing"], "waited for a position that cannot be reached"
        assert await old.wait(position, PATIENCE_S) == []
    assert titles(upgraded_url, "listing_v4") == [("told before", 3, None)]
    status = (await read_status(store.database, [NEW])).projections[0]
    assert (status.live, status.lag_events) == (None, len(story.events))


async def test_a_rebuild_makes_the_new_version_live_beside_the_old(
    store: Store, upgraded_url: str, story: Story
) -> None:
    async with store.projecting(OLD) as old, store.projecting(NEW) as new:
        async with opened_builder(upgraded_url) as builder:
            (switched,) = await rebuild(builder, [NEW])
        assert (switched.projection.version, switched.projection.build, switched.replaced) == (4, 1, None)
        for view in ("listing", "listing_v4"):
            assert titles(upgraded_url, view) == [("told before", 2, "assistant")]
        await until(lambda: not new.stopped)
        other = Story(title="told since")
        await store.append(other.events)
        position = await store.append([*story.say(), *other.say("Be brief", "system")])
        for progress in (old, new):
            assert await progress.wait(position, PATIENCE_S) == []
    now = [("told before", 3, "user"), ("told since", 1, "system")]
    assert titles(upgraded_url, "listing") == titles(upgraded_url, "listing_v4") == now
    assert titles(upgraded_url, "listing_v3") == [row[:2] for row in now]
    row = await Listing(store.database).get(story.id)  # of the old release
    assert row is not None
    assert row.message_count == 3
    assert build_records(upgraded_url, "listing").builds == [("listing", 3, 1, "live"), ("listing", 4, 1, "live")]


async def test_a_later_rebuild_by_the_old_release_leaves_the_bare_name_to_the_new(
    store: Store, upgraded_url: str
) -> None:
    async with opened_builder(upgraded_url) as builder:
        await rebuild(builder, [NEW])
        for work in (rebuild, roll_back):
            await work(builder, [OLD])
            assert titles(upgraded_url, "listing") == [("told before", 2, "assistant")]
            assert titles(upgraded_url, "listing_v3") == [("told before", 2)]


async def test_the_old_release_can_rebuild_before_the_new_version_is_built(store: Store, upgraded_url: str) -> None:
    async with opened_builder(upgraded_url) as builder:
        await rebuild(builder, [OLD])
        await prune(builder, [OLD])
    assert build_records(upgraded_url, "listing").builds == [("listing", 3, 2, "live"), ("listing", 4, 1, "building")]
    assert titles(upgraded_url, "listing_v4") == [("told before", 2, None)]


async def test_pruning_by_the_new_release_drops_the_old_version_and_stops_its_engine(
    store: Store, upgraded_url: str, story: Story
) -> None:
    rows(upgraded_url, "CREATE VIEW mine AS SELECT title, message_count FROM listing")
    async with store.projecting(OLD) as old, store.projecting(NEW) as new:
        async with opened_builder(upgraded_url) as builder:
            await rebuild(builder, [NEW])
            await until(lambda: not new.stopped)
            assert [build.version for build in await prune(builder, [NEW])] == [3]
        position = await store.append(story.say())
        assert await new.wait(position, PATIENCE_S) == []
        assert await old.wait(position, PATIENCE_S) == ["listing"]
    assert build_records(upgraded_url, "listing").tables == ["listing_v4_1"]
    assert rows(upgraded_url, "SELECT to_regclass('listing_v3')") == [(None,)]
    assert rows(upgraded_url, "SELECT * FROM mine") == [("told before", 3)]


async def test_a_failed_build_of_a_new_version_changes_nothing(
    store: Store, upgraded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> object:
        raise ValueError("cannot be projected")

    before = build_records(upgraded_url, "listing")
    with monkeypatch.context() as patched:
        patched.setattr(ListingV4, "rows", fails)
        async with opened_builder(upgraded_url) as builder:
            with pytest.raises(ProjectionFailedError, match="position 1: ValueError"):
                await rebuild(builder, [NEW])
    assert build_records(upgraded_url, "listing") == before
    assert titles(upgraded_url, "listing_v4") == [("told before", 2, None)]
    async with opened_builder(upgraded_url) as builder:
        await rebuild(builder, [NEW])
    assert titles(upgraded_url, "listing") == [("told before", 2, "assistant")]


async def test_a_foreign_view_that_blocks_the_switch_is_named_and_nothing_is_lost(upgraded_url: str) -> None:
    rows(upgraded_url, "CREATE VIEW mine AS SELECT title FROM listing")
    await asyncio.to_thread(upgrade, upgraded_url, ListingRenamed())
    async with opened_builder(upgraded_url) as builder:
        with pytest.raises(ViewInUseError, match="listing"):
            await rebuild(builder, [ListingRenamed()])
        assert titles(upgraded_url, "listing_v3") == [("told before", 2)]
        rows(upgraded_url, "DROP VIEW mine")
        await rebuild(builder, [ListingRenamed()])
    assert value(upgraded_url, "SELECT owner_name FROM listing") == "alice"


async def test_a_new_projection_waits_for_its_first_build(upgraded_url: str) -> None:
    await asyncio.to_thread(upgrade, upgraded_url, FirstTitles())
    assert rows(upgraded_url, "SELECT * FROM first_titles_v1") == []
    async with opened(upgraded_url) as store, store.projecting(FirstTitles()) as progress:
        position = await store.append(Story(title="two").events)
        assert await progress.wait(position, PATIENCE_S) == ["first_titles"]
        async with opened_builder(upgraded_url) as builder:
            await rebuild(builder, [FirstTitles()])
        await until(lambda: not progress.stopped)
        assert await progress.wait(position, PATIENCE_S) == []
    assert rows(upgraded_url, "SELECT title FROM first_titles ORDER BY 1") == [("told before",), ("two",)]
