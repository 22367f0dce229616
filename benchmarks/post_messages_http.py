"""`POST …/messages` with its read-your-writes wait, against an empty endpoint."""

from collections.abc import Sequence
from itertools import chain
from statistics import median

from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.load import Served, post
from benchmarks.workload.serving import Server, empty_app, serve
from benchmarks.workload.texts import turns

NAME = "post_messages_http"
EMPTY = [(post("/empty", b"{}"),)]
BASELINE = "an empty POST"

Groups = Sequence[tuple[bytes, ...]]


async def run(plan: Plan) -> list[Measurement]:
    """Return requests per second at 32 connections, and the p99 at half the rate."""
    async with serve(*empty_app(plan.conninfo)) as server:
        messages = [(request,) for request in chain.from_iterable(server.turns(turns()))]
        full = {"empty": _per_second(server, EMPTY), "messages": _per_second(server, messages)}
        figures = await plan.interleave(full)
        half = median(figures["messages"]) / 2
        paced = await plan.interleave(
            {"empty": _p99_ms(server, EMPTY, half), "messages": _p99_ms(server, messages, half)}
        )
    share, latency = Target(0.4), Target(25, at_least=False, of_ratio=False)
    at_half = f"p99 at {half:,.0f} requests/s (half of that), open loop"
    return [
        Measurement(
            NAME, "POST messages, 32 connections", "requests/s", figures["messages"], BASELINE, figures["empty"], share
        ),
        Measurement(NAME, at_half, "ms", paced["messages"], BASELINE, paced["empty"], latency),
    ]


def _per_second(server: Server, groups: Groups) -> Round:
    async def work(seconds: float) -> float:
        return (await server.load(groups, seconds)).per_second

    return work


def _p99_ms(server: Server, groups: Groups, rate: float) -> Round:
    async def work(seconds: float) -> float:
        served: Served = await server.load(groups, seconds, rate)
        return served.p99_ms

    return work
