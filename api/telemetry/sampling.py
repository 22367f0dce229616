"""Measurements at intervals: the pool, running turns and the event loop."""

import asyncio

from api.telemetry.meters import Meters
from eventlog.background import Background
from eventlog.db.database import Database
from turns.turns import Turns

INTERVAL_S = 0.5


class Sampling:
    """Measures the process every half second, as a scrape may reach another one."""

    def __init__(self, meters: Meters, database: Database, turns: Turns) -> None:
        self._meters = meters
        self._database = database
        self._turns = turns
        self._background = Background()

    async def open(self) -> None:
        """Start to measure."""
        self._background.keep("sampling", self._run)

    async def close(self) -> None:
        """Stop."""
        await self._background.close()

    def take(self) -> None:
        """Measure now."""
        pool = self._database.pool_use()
        self._meters.state(
            self._turns.running, self._turns.queued, pool.size, pool.idle, pool.waiting, limit=pool.limit
        )

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self.take()
            due = clock() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._meters.loop_lag(max(0.0, clock() - due))
