"""The time from a cancel to the end of the turn's stream.

The cancel goes through the process that runs the turn, or through another one.
"""

import asyncio
from statistics import median
from time import perf_counter

import httpx
import orjson

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.serving import Server, serve, turnlog_serve

NAME = "cancels"
QUESTION = "word " * 20_000
"""The demo model repeats it word by word for minutes."""


async def run(plan: Plan) -> list[Measurement]:
    """Return the median time from the request to the last frame of the stream."""
    command = turnlog_serve(plan.conninfo)
    async with serve(*command) as one, serve(*command) as other:
        rounds = await plan.interleave(
            {
                "same": lambda seconds: asyncio.to_thread(_cancelled_ms, one, one, seconds),
                "other": lambda seconds: asyncio.to_thread(_cancelled_ms, one, other, seconds),
            }
        )
    target = Target(200, at_least=False, of_ratio=False)
    through = "p50 of a cancel through another process, to the end of the stream"
    return [Measurement(NAME, through, "ms", rounds["other"], "through the same process", rounds["same"], target)]


def _cancelled_ms(runner: Server, canceller: Server, seconds: float) -> float:
    """Start turns in `runner` and cancel them through `canceller`, for `seconds`."""
    end, times = perf_counter() + seconds, list[float]()
    body = {"content": QUESTION, "model": "turnlog/demo", "stream": True}
    while not times or perf_counter() < end:
        with httpx.stream("POST", f"{runner.process.url}/v1/turns", json=body, timeout=30) as answer:
            frames = (orjson.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
            first = next(frames)
            next(frames)  # the model has begun to answer
            path = f"/v1/conversations/{first['conversation_id']}/turns/{first['turn_id']}/cancel"
            began = perf_counter()
            httpx.post(f"{canceller.process.url}{path}", timeout=30).raise_for_status()
            for _ in frames:
                pass
            times.append((perf_counter() - began) * 1000)
    return median(times)
