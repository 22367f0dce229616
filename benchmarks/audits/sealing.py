"""Appends while the log is sealed, against appends without."""

import asyncio

from audit.seals.sealer import Sealer
from benchmarks.appends import message_states, writing_coroutines
from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.callers import rate
from eventlog.migrations import migrate
from eventlog.opening import OpenLog, open_log

NAME = "sealing"
BASELINE = "the same appends without a sealer"


async def run(plan: Plan) -> list[Measurement]:
    """Return appends per second of 32 coroutines, with and without a sealer."""
    states = message_states()
    await asyncio.to_thread(migrate, plan.conninfo)
    async with open_log(plan.conninfo, listening=False) as opened:

        async def unsealed(seconds: float) -> float:
            return await rate(seconds, writing_coroutines(opened.writer, states))

        async def sealed(seconds: float) -> float:
            await _seal_all(opened)  # what was appended without a sealer is not its work now
            sealer = Sealer(opened.database, opened.feed)
            await sealer.open()
            try:
                return await unsealed(seconds)
            finally:
                await sealer.close()

        figures = await plan.interleave({"unsealed": unsealed, "sealed": sealed})
    return [
        Measurement(
            NAME,
            "group commit, 32 coroutines, sealed",
            "appends/s",
            figures["sealed"],
            BASELINE,
            figures["unsealed"],
            Target(0.95),
        )
    ]


async def _seal_all(opened: OpenLog) -> None:
    await Sealer(opened.database, opened.feed, interval_s=0.0).seal()
