"""Waiting until all running projections have reached a position."""

import asyncio
from typing import Any

from projections.progress import Progress


def progress() -> Progress:
    return Progress(["listing", "history"])


async def waiting(work: asyncio.Task[Any]) -> bool:
    """Return whether `work` still waits after everything that can run has run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not work.done()


async def test_a_position_that_is_reached_needs_no_wait() -> None:
    reached = progress()
    reached.advance({"listing": 5, "history": 7})
    assert await reached.wait(5, 60) == []


async def test_a_wait_ends_when_the_last_projection_reaches_the_position() -> None:
    coming = progress()
    work = asyncio.create_task(coming.wait(5, 60))
    coming.advance({"listing": 9})
    assert await waiting(work)
    coming.advance({"history": 4})
    assert await waiting(work)
    coming.advance({"history": 5})
    assert await work == []


async def test_waits_end_in_the_order_of_their_positions() -> None:
    coming = progress()
    later, sooner = (asyncio.create_task(coming.wait(position, 60)) for position in (9, 3))
    assert await waiting(later)
    coming.advance({"listing": 3, "history": 3})
    assert await sooner == []
    assert await waiting(later)
    coming.advance({"listing": 9, "history": 9})
    assert await later == []


async def test_an_older_position_changes_nothing() -> None:
    ahead = progress()
    ahead.advance({"listing": 5})
    ahead.advance({"listing": 3})
    assert ahead.positions == {"listing": 5, "history": 0}


async def test_a_wait_that_times_out_returns_the_projections_that_are_behind() -> None:
    behind = progress()
    behind.advance({"listing": 5})
    assert await behind.wait(5, 0.001) == ["history"]


async def test_a_wait_skips_a_stopped_projection_and_returns_its_name() -> None:
    partly = progress()
    partly.set_stopped({"history"}, of={"listing", "history"})
    work = asyncio.create_task(partly.wait(5, 60))
    assert await waiting(work)
    partly.advance({"listing": 5})
    assert await work == ["history"]


async def test_a_projection_that_stops_ends_the_waits_for_it() -> None:
    stopping = progress()
    stopping.advance({"listing": 5})
    work = asyncio.create_task(stopping.wait(5, 60))
    assert await waiting(work)
    stopping.set_stopped({"history"}, of={"history"})
    assert await work == ["history"]


async def test_a_projection_that_runs_again_is_waited_for_again() -> None:
    again = progress()
    again.set_stopped({"listing", "history"}, of={"listing", "history"})
    assert await again.wait(5, 60) == ["listing", "history"]
    again.set_stopped(set(), of={"listing", "history"})
    work = asyncio.create_task(again.wait(5, 60))
    assert await waiting(work)
    again.advance({"listing": 5, "history": 5})
    assert await work == []


async def test_an_update_of_one_projection_leaves_another_stopped() -> None:
    shared = progress()
    shared.set_stopped({"history"}, of={"history"})
    shared.set_stopped(set(), of={"listing"})
    assert shared.stopped == {"history"}


async def test_positions_of_unknown_projections_are_ignored() -> None:
    older = progress()
    older.advance({"search": 5, "listing": 5})
    assert older.positions == {"listing": 5, "history": 0}


async def test_a_cancelled_wait_does_not_affect_the_others() -> None:
    coming = progress()
    leaving, staying = (asyncio.create_task(coming.wait(5, 60)) for _ in range(2))
    assert await waiting(leaving)
    leaving.cancel()
    assert await waiting(staying)
    coming.advance({"listing": 5, "history": 5})
    assert await staying == []


async def test_a_wait_continues_when_positions_are_forgotten_as_it_ends() -> None:
    coming = progress()
    work = asyncio.create_task(coming.wait(5, 60))
    assert await waiting(work)
    coming.advance({"listing": 5, "history": 5})
    coming.forget()
    assert await waiting(work)
    coming.advance({"listing": 5, "history": 5})
    assert await work == []


async def test_a_wait_for_one_projection_does_not_wait_for_others() -> None:
    coming = progress()
    works = [asyncio.create_task(coming.wait_for("listing", position, 60)) for position in (3, 5)]
    coming.advance({"history": 9})
    coming.advance({"listing": 3})
    assert await works[0] is True
    assert await waiting(works[1])
    coming.advance({"listing": 5})
    assert await works[1] is True
    assert await coming.wait_for("listing", 4, 60) is True


async def test_a_wait_for_one_projection_ends_when_it_stops_or_the_time_is_over() -> None:
    coming = progress()
    assert await coming.wait_for("listing", 1, 0.001) is False
    work = asyncio.create_task(coming.wait_for("listing", 1, 60))
    assert await waiting(work)
    coming.set_stopped({"listing"}, of={"listing"})
    assert await work is False
    assert await coming.wait_for("listing", 1, 60) is False
    coming.advance({"listing": 1})
    assert await coming.wait_for("listing", 1, 60) is True
