"""The deletion of ten thousand conversations, beside other requests."""

import asyncio
from itertools import chain
from time import perf_counter

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.requests.listing import make
from benchmarks.workload.paced import Paced
from benchmarks.workload.serving import Server, serve, turnlog_serve
from benchmarks.workload.texts import turns

NAME = "deletion"
REQUESTS_A_SECOND = 200
AGENT = "agent-3"
"""One of five agents, which the conversations have by turns."""
BASELINE = "before it"


async def run(plan: Plan) -> list[Measurement]:
    """Return the rate of a deletion, and the p99 of messages recorded meanwhile.

    Half of the messages of `listing` are written, so that one agent has 10,000 conversations.
    """
    await make(plan.conninfo, plan.events // 2)
    async with serve(*turnlog_serve(plan.conninfo)) as server:
        groups = [(request,) for request in chain.from_iterable(await asyncio.to_thread(server.turns, turns()))]
        before, during = (Paced(server, groups, REQUESTS_A_SECOND) for _ in range(2))
        await before.work(plan.seconds)
        before.drop_warm_up()
        for _ in range(plan.rounds):
            await before.work(plan.seconds)
        deleting = asyncio.create_task(asyncio.to_thread(_delete, server))
        while not deleting.done():
            await during.work(1)
        count, seconds = await deleting
    return [
        Measurement(NAME, f"{count:,} conversations of an agent deleted", "conversations/s", [count / seconds]),
        Measurement(
            NAME,
            f"p99 of POST messages at {REQUESTS_A_SECOND} requests/s meanwhile",
            "ms",
            during.p99_ms,
            BASELINE,
            before.p99_ms,
            Target(50, at_least=False, of_ratio=False),
        ),
    ]


def _delete(server: Server) -> tuple[int, float]:
    """Return the number of deleted conversations, and the seconds that it took."""
    began = perf_counter()
    count: int = server.delete(f"/v1/conversations?agent_id={AGENT}")["deleted"]
    return count, perf_counter() - began
