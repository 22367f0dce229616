"""A rebuild that was killed between any two steps is resumed by the next run."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from projections.catalog import PROJECTIONS
from projections.projection import Projection
from projections.rebuild import builder as builder_module
from projections.rebuild.builder import Builder
from projections.rebuild.catch_up import follow
from projections.rebuild.loading import index_build
from projections.rebuild.plan import Part, read_parts, set_indexing
from projections.rebuild.rebuild import rebuild
from tests.support.histories.builders import one_of_each
from tests.support.rebuilding import (
    build_records,
    caught_up,
    check_read_models,
    in_threads,
    loaded,
    opened_builder,
    prepared_url,
    store,
    stories,
)
from tests.support.store import Store

__all__ = ["in_threads", "loaded", "prepared_url", "store"]
pytestmark = pytest.mark.usefixtures("in_threads")


Moment = Callable[[Builder, list[Projection]], Awaitable[object]]


async def _after_plan(builder: Builder, projections: Sequence[Projection]) -> None:
    await builder.plan(projections, await builder.log.head())


async def _after_plan_of_one(builder: Builder, projections: Sequence[Projection]) -> None:
    await builder.plan(projections[1:2], await builder.log.head())


async def _after_parts(builder: Builder, projections: Sequence[Projection], *, last: int | None) -> None:
    await builder.plan(projections, await builder.log.head())
    source = builder.source(await _target(builder))
    for part in (await read_parts(builder.connection, projections[0]))[:last]:
        builder_module.load_part(source, projections, part)


async def _target(builder: Builder) -> int:
    cursor = await builder.connection.execute("SELECT max(target) FROM rebuilds")
    return (await cursor.fetchall())[0][0]


async def _after_all_parts(builder: Builder, projections: Sequence[Projection]) -> None:
    await _after_parts(builder, projections, last=None)


async def _after_some_parts(builder: Builder, projections: Sequence[Projection]) -> None:
    await _after_parts(builder, projections, last=3)


async def _after_parts_of_one(builder: Builder, projections: Sequence[Projection]) -> None:
    await _after_parts(builder, projections[:1], last=2)


async def _while_indexing(builder: Builder, projections: Sequence[Projection]) -> None:
    await _after_all_parts(builder, projections)
    for each in projections:
        await set_indexing(builder.connection, each)


async def _after_indexing_one(builder: Builder, projections: Sequence[Projection]) -> None:
    await _while_indexing(builder, projections)
    for _ in range(2):  # the second time by a worker that was taken for dead
        index_build(builder.source(await _target(builder)), projections[0])


async def _after_loading(builder: Builder, projections: Sequence[Projection]) -> None:
    await builder.plan(projections, await builder.log.head())
    await builder.load(projections)


async def _after_following_and_switching_one(builder: Builder, projections: Sequence[Projection]) -> None:
    await _after_loading(builder, projections)
    for each in projections:
        await follow(builder, each, "building", await builder.log.head())
    await rebuild(builder, PROJECTIONS[:1])


async def _at_once(_builder: Builder, _projections: Sequence[Projection]) -> None:
    pass


MOMENTS: dict[str, Moment] = {
    "its tables were created": _at_once,
    "all were planned": _after_plan,
    "one was planned": _after_plan_of_one,
    "some parts were loaded": _after_some_parts,
    "some parts of one were loaded": _after_parts_of_one,
    "all parts were loaded": _after_all_parts,
    "indexing had started": _while_indexing,
    "one had its indexes": _after_indexing_one,
    "all were loaded": _after_loading,
    "one was live already": _after_following_and_switching_one,
}


ALL_LOADED = {"all parts were loaded", "indexing had started", "one had its indexes", "all were loaded"}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_rebuild_resumes_at_its_last_step(
    store: Store, prepared_url: str, loaded: list[tuple[list[str], Part]], moment: str
) -> None:
    events = stories(8)
    await store.append(events)
    async with opened_builder(prepared_url) as builder:
        started = [await builder.create(each, "building") for each in PROJECTIONS]
        await MOMENTS[moment](builder, started)
    before = len(loaded)
    later = [*stories(1), *one_of_each()]
    await store.append(later)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, PROJECTIONS)
    await caught_up(store)
    check_read_models(prepared_url, [*events, *later])
    parts = [(name, part) for names, part in loaded for name in names]
    if moment != "one was live already":
        assert len(set(parts)) == len(parts), "a part was loaded twice"
        assert [build_records(prepared_url, each.name).builds[-1][2] for each in PROJECTIONS] == [2] * len(PROJECTIONS)
    if moment in ALL_LOADED:
        assert len(loaded) == before
    assert {build_records(prepared_url, each.name).plans for each in PROJECTIONS} == {0}
