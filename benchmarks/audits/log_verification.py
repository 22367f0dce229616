"""`turnlog log verify` on two connections, against one statement in PostgreSQL."""

import asyncio
from time import perf_counter

from audit.seals.sealer import Sealer
from audit.seals.verification import verify_log
from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.generator import make_log
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.opening import open_log

NAME = "verification"
WORKERS = 2
BASELINE = "one statement that recomputes every digest and builds no tree"

_SQL = load_statements("benchmarks.audits", "log_verification.sql")


class Verifications:
    """Verifications of one sealed log."""

    def __init__(self, conninfo: str, events: int) -> None:
        self._conninfo = conninfo
        self._events = events
        self._database = Database(conninfo)

    async def make(self) -> None:
        """Create the log and seal it."""
        await asyncio.to_thread(make_log, self._conninfo, self._database.schema, self._events)
        async with open_log(self._conninfo, listening=False) as opened:
            await Sealer(opened.database, opened.feed, interval_s=0.0).seal()

    async def verified(self, _: float) -> float:
        """Verify the whole log and return events per second."""
        start = perf_counter()
        found = await verify_log(self._database, WORKERS)
        seconds = perf_counter() - start
        assert (found.events, found.finding) == (self._events, None), found
        return self._events / seconds

    async def recomputed(self, _: float) -> float:
        """Recompute all digests on one connection and return events per second."""
        async with await self._database.connect() as connection:
            start = perf_counter()
            cursor = await connection.execute(_SQL["count_mismatches"])
            found = await cursor.fetchone()
            seconds = perf_counter() - start
        assert found == (0,), found
        return self._events / seconds


async def run(plan: Plan) -> list[Measurement]:
    """Return events per second of verifications."""
    log = Verifications(plan.conninfo, plan.events)
    await log.make()
    figures = await plan.interleave({"baseline": log.recomputed, "verify": log.verified})
    rounds, baseline = figures["verify"], figures["baseline"]
    target = Target(150_000, of_ratio=False)
    return [Measurement(NAME, f"{WORKERS} workers", "events/s", rounds, BASELINE, baseline, target)]
