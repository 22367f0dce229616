"""The time until `turnlog serve` is ready.

It starts on an empty directory, and on a directory that has a log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.serving import launch, turnlog
from postgres.embedded import EmbeddedPostgres

NAME = "starts"

Started = Callable[[Path], Awaitable[float]]
"""Start and end a program on a data directory and return the milliseconds until it was ready."""


async def run(plan: Plan) -> list[Measurement]:
    """Return the times of a first start and of a later one.

    PostgreSQL's part of each is the baseline.
    """
    with TemporaryDirectory(prefix="turnlog-") as directory:
        data_dir = Path(directory) / "again"
        rounds = await plan.interleave(
            {
                "first PostgreSQL": lambda _: _in_new_directory(_postgres_ms),
                "first": lambda _: _in_new_directory(_server_ms),
                "PostgreSQL": lambda _: _postgres_ms(data_dir),
                "again": lambda _: _server_ms(data_dir),
            }
        )
    first, again = (Target(ms, at_least=False, of_ratio=False) for ms in (5000, 2000))
    part = "PostgreSQL's part"
    return [
        Measurement(NAME, "first start until ready", "ms", rounds["first"], part, rounds["first PostgreSQL"], first),
        Measurement(NAME, "later start until ready", "ms", rounds["again"], part, rounds["PostgreSQL"], again),
    ]


async def _in_new_directory(started_ms: Started) -> float:
    with TemporaryDirectory(prefix="turnlog-") as directory:
        return await started_ms(Path(directory) / "data")


async def _server_ms(data_dir: Path) -> float:
    began = perf_counter()
    async with launch(turnlog(), "serve", "--data-dir", str(data_dir), "--port", "0"):
        return (perf_counter() - began) * 1000


async def _postgres_ms(data_dir: Path) -> float:
    embedded = EmbeddedPostgres(data_dir)
    began = perf_counter()
    await asyncio.to_thread(embedded.start)
    took_ms = (perf_counter() - began) * 1000
    await asyncio.to_thread(embedded.stop)
    return took_ms
