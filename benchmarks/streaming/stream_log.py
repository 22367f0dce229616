"""The lag of the log behind readers of running turns, and its commits."""

import asyncio
import re
from bisect import bisect_left
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.concurrent_streams import CHUNKS_A_SECOND, quantile, read_streams, upcoming_script
from benchmarks.workload.model_server import now_us
from benchmarks.workload.serving import Server, launch, model_server, serve, turnlog_serve
from eventlog.db.statements import load_statements

NAME = "stream_log"
STREAMS = (25, 50, 100)
MOST_ROUNDS = 3
POLL_S = 0.002

_SQL = load_statements("benchmarks.streaming", "stream_log.sql")
_STAMP = re.compile(r"@(\d+)@")


class Head:
    """The observed growth of the log's head.

    A commit is at most one poll older than its observation.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._seen_us: list[int] = []
        self._positions: list[int] = []

    async def watch(self) -> None:
        """Poll the head until cancelled."""
        while True:
            position = await self.position()
            if not self._positions or position > self._positions[-1]:
                self._seen_us.append(now_us())
                self._positions.append(position)
            await asyncio.sleep(POLL_S)

    async def position(self) -> int:
        """Return the last position."""
        return (await self.fetch("read_head"))[0][0]

    async def fetch(self, statement: str, *parameters: object) -> list[Any]:
        """Return the rows of a statement."""
        return await (await self._connection.execute(_SQL[statement], parameters)).fetchall()

    def seen_us(self, position: int) -> int:
        """Return the time at which this position was first observed."""
        return self._seen_us[bisect_left(self._positions, position)]

    def between(self, from_us: int, to_us: int) -> tuple[int, int]:
        """Return the positions of the head at two times."""
        first, last = (bisect_left(self._seen_us, at_us) - 1 for at_us in (from_us, to_us))
        return self._positions[first], self._positions[last]


class Recording:
    """Rounds with a number of streams: the lag of the log and its commits."""

    def __init__(self, server: Server, conninfo: str, streams: int) -> None:
        self._server = server
        self._conninfo = conninfo
        self._streams = streams
        self.commits: list[float] = []

    async def lag_ms(self, seconds: float) -> float:
        """Return the p99 time from a chunk's arrival at its reader to its commit."""
        script = upcoming_script(seconds, self._streams)
        async with _watched(self._conninfo) as head:
            start = await head.position()
            received = await read_streams(self._server, "/v1/turns", script, self._streams)
            await asyncio.sleep(POLL_S * 10)
            first, last = head.between(received.from_us, received.to_us)
            ((commits,),) = await head.fetch("count_commits", first, last)
            recorded = await head.fetch("read_chunks", start, await head.position())
        self.commits.append(commits / seconds)
        seen_us = {int(stamp): head.seen_us(position) for position, data in recorded for stamp in _STAMP.findall(data)}
        return quantile([(seen_us[sent] - arrived) / 1000 for sent, arrived in received.arrivals().items()], 0.99)


async def run(plan: Plan) -> list[Measurement]:
    """Return lag and commits per second at several numbers of streams."""
    plan = replace(plan, rounds=min(plan.rounds, MOST_ROUNDS))
    async with (
        launch(*model_server()) as models,
        serve(*turnlog_serve(plan.conninfo), TURNLOG_MODEL_API_BASE=f"{models.url}/v1") as server,
    ):
        recordings = {str(streams): Recording(server, plan.conninfo, streams) for streams in STREAMS}
        lags = await plan.interleave({streams: each.lag_ms for streams, each in recordings.items()})
    fewest, target = str(STREAMS[0]), Target(150, at_least=False, of_ratio=False)
    return [
        *(
            Measurement(NAME, f"p99 from a reader to the log, {_at(streams)}", "ms", lag, target=target)
            for streams, lag in lags.items()
        ),
        *(
            Measurement(
                NAME,
                f"commits of the log, {_at(streams)}",
                "commits/s",
                each.commits[1:],
                None if streams == fewest else f"{fewest} streams",
                () if streams == fewest else recordings[fewest].commits[1:],
            )
            for streams, each in recordings.items()
        ),
    ]


def _at(streams: str) -> str:
    return f"{streams} streams at {CHUNKS_A_SECOND} chunks/s"


@asynccontextmanager
async def _watched(conninfo: str) -> AsyncGenerator[Head]:
    options = "-c search_path=turnlog"
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=0, options=options)
    async with connection:
        head = Head(connection)
        watching = asyncio.create_task(head.watch())
        try:
            yield head
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
