"""A rebuild by two workers, against the eventsourcing library and plain SQL."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from time import perf_counter

from benchmarks.baselines.rebuild_floor import RebuildFloor
from benchmarks.baselines.rebuild_library import library_seconds
from benchmarks.baselines.views import VIEWS, Tables
from benchmarks.machine import peak_mb
from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.generator import make_log
from projections.catalog import install
from projections.rebuild.builder import BuildStep, open_builder
from projections.rebuild.rebuild import rebuild
from projections.rebuild.switch import Switched

NAME = "rebuild"
WORKERS = 2
LEAST_ROUNDS, MOST_ROUNDS = 2, 3
LIBRARY_EVENTS = 20_000


class Rebuilds:
    """Rebuilds of one log, run as the command runs them.

    `peaks_mb` holds the peak memory of a worker for each rebuild.
    """

    def __init__(self, conninfo: str, schema: str, events: int) -> None:
        self.events = events
        self.peaks_mb: list[float] = []
        self._conninfo = conninfo
        self._schema = schema

    async def make(self) -> None:
        """Create the log and the first read models, with which later ones compare."""
        await asyncio.to_thread(make_log, self._conninfo, self._schema, self.events)
        await asyncio.to_thread(install, self._conninfo, self._schema)
        await self._rebuild()

    async def rate(self, _: float) -> float:
        """Run a whole rebuild and return events per second.

        A rebuild starts workers, plans, loads, indexes, compares and switches.
        """
        start = perf_counter()
        switched = await self._rebuild()
        seconds = perf_counter() - start
        for each in switched:
            assert each.compared and not each.compared.differing, f"{each.projection} differs from its last build"
        return self.events / seconds

    async def _rebuild(self) -> list[Switched]:
        async with open_builder(self._conninfo, self._schema, WORKERS, _ignore) as builder:
            switched = await rebuild(builder, VIEWS)
            self.peaks_mb.append(max(peak_mb(child.pid) for child in active_children()))
        return switched


async def run(plan: Plan) -> list[Measurement]:
    """Return events per second of rebuilds, also on a longer log, and peak memory."""
    shortest = Rebuilds(plan.conninfo, "first_events", min(LIBRARY_EVENTS, plan.events))
    short = Rebuilds(plan.conninfo, "first_tenth", plan.events // 10)
    long = Rebuilds(plan.conninfo, "turnlog", plan.events)
    for each in (shortest, short, long):
        await each.make()
    library, floor = Tables(plan.conninfo, "library", "first_events"), Tables(plan.conninfo, "floor", "turnlog")
    by_library = _rate(shortest.events, lambda: library_seconds(library))
    library_rounds = [await by_library(0)]
    figures = await replace(plan, rounds=max(LEAST_ROUNDS, min(plan.rounds, MOST_ROUNDS))).interleave(
        {
            "floor": _rate(long.events, RebuildFloor(floor).seconds),
            "long": long.rate,
            "short": short.rate,
        }
    )
    library_rounds.append(await by_library(0))
    for tables in (library, floor):
        await asyncio.to_thread(tables.check)
    measure = f"listing, history, context from {long.events:,} events, {WORKERS} workers"
    runner = f"eventsourcing's ProjectionRunner, {shortest.events:,} events"
    linear = f"the same from {short.events:,} events"
    memory = Target(300, at_least=False, of_ratio=False)
    return [
        Measurement(NAME, measure, "events/s", figures["long"], runner, library_rounds, Target(60)),
        Measurement(NAME, measure, "events/s", figures["long"], "set-based SQL", figures["floor"], Target(0.4)),
        Measurement(NAME, measure, "events/s", figures["long"], linear, figures["short"], Target(0.8)),
        Measurement(NAME, "peak memory of a worker", "MB", long.peaks_mb, target=memory),
    ]


def _rate(events: int, seconds: Callable[[], float]) -> Round:
    async def work(_: float) -> float:
        return events / await asyncio.to_thread(seconds)

    return work


def _ignore(_: BuildStep) -> None:
    """Ignore a step of the progress."""
