"""A turn of two messages over HTTP, against bare INSERTs of the same messages."""

from benchmarks.baselines.floor import open_floor
from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.serving import serve, turnlog_serve
from benchmarks.workload.store import open_store
from benchmarks.workload.texts import turns

NAME = "turns_http"


async def run(plan: Plan) -> list[Measurement]:
    """Return turns per second at 32 connections.

    Each answer waits until all projections show the message.
    """
    texts = turns()
    async with (
        open_store(plan.conninfo) as store,
        open_floor(store.database, texts) as floor,
        serve(*turnlog_serve()) as server,
    ):
        groups = server.turns(texts)

        async def over_http(seconds: float) -> float:
            return (await server.load(groups, seconds)).per_second / 2

        figures = await plan.interleave({"bare": floor.bare, "http": over_http})
    target, baseline = Target(1200, of_ratio=False), "bare INSERT per message, in process, 32 connections"
    return [Measurement(NAME, "POST messages twice", "turns/s", figures["http"], baseline, figures["bare"], target)]
