"""Builds are switched while engines run. Every writer reads its own writes.

No reader sees the position go back.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from domain.events import ConversationEvent
from projections import engine
from projections.catalog import PROJECTIONS
from projections.errors import NothingKeptError
from projections.models.history import History
from projections.models.listing import Listing
from projections.models.listing_filter import ListingFilter
from projections.progress import Progress
from projections.rebuild.rebuild import prune, rebuild, roll_back
from tests.support.histories.builders import Story
from tests.support.projections import POISON, Titles, TitlesThatCannotFollow
from tests.support.rebuilding import (
    build_records,
    caught_up,
    check_read_models,
    in_threads,
    opened_builder,
    prepared_url,
    run_turnlog,
)
from tests.support.store import PATIENCE_S, Store, rows, until, value

__all__ = ["in_threads", "prepared_url"]
pytestmark = pytest.mark.usefixtures("in_threads", "prepared_url")


async def reached(progress: Progress, position: int) -> None:
    assert await progress.wait(position, PATIENCE_S) == []


class Client:
    """A process that reads its own writes, and one that only reads, during a block."""

    def __init__(self, store: Store, progress: Progress) -> None:
        self.story = Story()
        self.written = 0
        self._store = store
        self._progress = progress
        self._ended = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(work()) for work in (self._write, self._read)]
        try:
            yield
        finally:
            self._ended = True
            await asyncio.gather(*tasks)

    async def _write(self) -> None:
        await self._append(self.story.events)
        while not self._ended:
            await self._append(self.story.say())
            row = await Listing(self._store.database).get(self.story.id)
            assert row is not None
            assert row.message_count == self.written - 1
            page = await History(self._store.database).page(
                self.story.id, descending=True, superseded=False, beyond=None, limit=1
            )
            assert page[0].version == self.written

    async def _append(self, events: list[ConversationEvent] | tuple[ConversationEvent, ...]) -> None:
        position = await self._store.append(events)
        self.written += len(events)
        assert await self._progress.wait(position, PATIENCE_S) == []

    async def _read(self) -> None:
        seen = 0
        while not self._ended:
            page = await Listing(self._store.database).page("alice", ListingFilter(), None, 100)
            count = sum(row.message_count for row in page)
            assert count >= seen, "the listing has gone back"
            seen = count
            await asyncio.sleep(0.005)  # without a pause the rebuilds would get little of the processor


async def _rebuild(conninfo: str) -> None:
    async with opened_builder(conninfo) as builder:
        await rebuild(builder, PROJECTIONS)


async def _roll_back(conninfo: str) -> None:
    async with opened_builder(conninfo) as builder:
        await roll_back(builder, PROJECTIONS)


async def _prune(conninfo: str) -> None:
    async with opened_builder(conninfo) as builder:
        await prune(builder, PROJECTIONS)


def wrote(client: Client, before: int) -> bool:
    return client.written > before


async def test_repeated_switches_keep_every_write_readable_and_no_read_goes_back(
    here: Store, there: Store, prepared_url: str
) -> None:
    steps: list[Callable[[str], Awaitable[None]]] = [_rebuild, _rebuild, _roll_back, _roll_back, _prune, _rebuild]
    async with here.projecting(*PROJECTIONS) as one, there.projecting(*PROJECTIONS) as other:
        clients = [Client(here, one), Client(there, other)]
        async with clients[0].running(), clients[1].running():
            for step in steps:
                before = [client.written for client in clients]
                await step(prepared_url)
                await until(lambda before=before: all(map(wrote, clients, before)))
    await caught_up(here)
    check_read_models(prepared_url, [event for client in clients for event in client.story.events])
    assert build_records(prepared_url, "listing").states == [(3, "kept"), (4, "live")]


async def test_the_engine_continues_with_the_new_build_at_once(
    here: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY_LEAD_S", 3600.0)
    story = Story()
    async with here.projecting(*PROJECTIONS) as progress:
        await reached(progress, await here.append(story.events))
        await _rebuild(prepared_url)
        await reached(progress, await here.append(story.say()))
        await _rebuild(prepared_url)
        await _prune(prepared_url)  # also the build that the engine holds
        await reached(progress, await here.append(story.say()))
    assert build_records(prepared_url, "listing").states == [(3, "live")]
    check_read_models(prepared_url, story.events)


async def test_a_stopped_projection_runs_again_after_a_rebuild_with_fixed_code(
    here: Store, there: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "RETRY_ERROR_S", 3600.0)
    monkeypatch.setattr(engine, "MAX_RETRY_ERROR_S", 3600.0)
    monkeypatch.setattr(engine, "RETRY_LEAD_S", 0.02)
    broken = TitlesThatCannotFollow()
    async with here.projecting(broken) as one, there.projecting(broken) as other:
        position = await here.append(Story(title=POISON).events)
        for progress in (one, other):
            assert await progress.wait(position, PATIENCE_S) == ["titles"]
        async with opened_builder(prepared_url) as builder:
            (switched,) = await rebuild(builder, [Titles()])
        assert switched.compared is None
        for progress in (one, other):
            await until(lambda progress=progress: not progress.stopped)
        position = await there.append(Story(title="fine").events)
        await asyncio.gather(reached(one, position), reached(other, position))
    assert rows(prepared_url, "SELECT title FROM titles ORDER BY 1") == [("fine",), (POISON,)]
    assert rows(prepared_url, "SELECT error FROM projections WHERE name = 'titles' AND state = 'live'") == [(None,)]


async def test_a_rollback_catches_up_the_kept_build_and_a_second_one_reverts_it(here: Store, prepared_url: str) -> None:
    story = Story()
    await here.append(story.events)
    await caught_up(here)
    await _rebuild(prepared_url)
    await here.append(story.say())
    await caught_up(here)
    for build in (1, 2, 1):
        await _roll_back(prepared_url)
        live = "SELECT DISTINCT build FROM projections WHERE state = 'live' AND name <> 'titles'"
        assert rows(prepared_url, live) == [(build,)]
        check_read_models(prepared_url, story.events)
        await here.append(story.say())
        await caught_up(here)
        check_read_models(prepared_url, story.events)


async def test_only_the_build_before_the_last_rebuild_is_kept(here: Store, prepared_url: str) -> None:
    await here.append(Story().events)
    await _rebuild(prepared_url)
    await _roll_back(prepared_url)
    await _rebuild(prepared_url)  # the second build was not live any more
    assert build_records(prepared_url, "context").states == [(1, "kept"), (3, "live")]


async def test_a_rollback_without_a_kept_build_is_refused(here: Store, prepared_url: str) -> None:
    await here.append(Story().events)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, PROJECTIONS[:1])
        with pytest.raises(NothingKeptError):
            await roll_back(builder, PROJECTIONS)
    assert build_records(prepared_url, "listing").states[-1] == (2, "live")
    result = await asyncio.to_thread(run_turnlog, prepared_url, "rebuild", "history", "--rollback")
    assert result == (1, "", "Error: There is no earlier build of history to go back to.")


async def test_pruning_drops_all_other_builds_and_keeps_foreign_views(here: Store, prepared_url: str) -> None:
    story = Story()
    await here.append(story.events)
    rows(prepared_url, "CREATE VIEW mine AS SELECT conversation_id, message_count FROM listing")
    await _rebuild(prepared_url)
    async with opened_builder(prepared_url) as builder:
        for state in ("building", "scratch"):
            await builder.plan([await builder.create(each, state) for each in PROJECTIONS], 1)
    result = await asyncio.to_thread(run_turnlog, prepared_url, "rebuild", "--all", "--prune")
    assert (result[0], result[1].count("was dropped"), result[2]) == (0, 3 * len(PROJECTIONS), "")
    for each in PROJECTIONS:
        found = build_records(prepared_url, each.name)
        assert (found.builds, found.plans) == ([(each.name, each.version, 2, "live")], 0)
    assert build_records(prepared_url, "listing").tables == ["listing_v3_2"]
    await here.append(story.say())
    await caught_up(here)
    assert value(prepared_url, "SELECT message_count FROM mine") == 1


async def test_a_build_under_a_foreign_view_is_not_dropped_and_is_named_in_one_line(
    here: Store, prepared_url: str
) -> None:
    await here.append(Story().events)
    await caught_up(here)
    rows(prepared_url, "CREATE VIEW mine AS SELECT title FROM listing_v3_1")
    await _rebuild(prepared_url)
    code, out, err = await asyncio.to_thread(run_turnlog, prepared_url, "rebuild", "listing", "--prune")
    assert (code, out) == (1, "")
    assert err.startswith("Error: PostgreSQL refuses")
    assert "depend" in err
    assert "\n" not in err
    assert value(prepared_url, "SELECT count(*) FROM mine") == 1
