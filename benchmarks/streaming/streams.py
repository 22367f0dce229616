"""Many concurrent streams of `turnlog serve`, against passthroughs.

A passthrough stores nothing.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.concurrent_streams import (
    CHUNKS_A_SECOND,
    SETTLE_S,
    ConcurrentStreams,
    read_streams,
    upcoming_script,
)
from benchmarks.workload.serving import (
    Process,
    Server,
    launch,
    loaded,
    model_server,
    passthrough_app,
    serve,
    turnlog_serve,
)

NAME = "streams"
STREAMS = 200
MOST_PACES = 8
SATURATED = 0.9
MOST_ROUNDS = 3
SUSTAINED = 100

LITELLM = "a FastAPI passthrough of litellm"
OPENAI = "a passthrough of the OpenAI library's stream"


class Side(NamedTuple):
    """A server and its streaming route.

    Only Turnlog's turns continue without a reader.
    """

    server: Server
    path: str

    async def stream(self, seconds: float, streams: int, rate: float = CHUNKS_A_SECOND) -> ConcurrentStreams:
        """Stream for `seconds` and return what the readers received."""
        script = upcoming_script(seconds, streams, rate)
        return await read_streams(self.server, self.path, script, streams, to_the_end=self.path == "/v1/turns")

    def per_second(self, rate: float) -> Round:
        """Return a round that measures the chunks per second of 200 streams."""

        async def work(seconds: float) -> float:
            return (await self.stream(seconds, STREAMS, rate)).per_second

        return work


class Delays:
    """Rounds of a side below saturation: chunk delay and processor time per chunk."""

    def __init__(self, side: Side, streams: int) -> None:
        self._side = side
        self._streams = streams
        self.p50_ms: list[float] = []
        self.p99_ms: list[float] = []
        self.cpu_us: list[float] = []

    async def work(self, seconds: float) -> float:
        """Run a round and return its median delay.

        The processor time covers whole streams, including their starts and ends.
        """
        before = self._side.server.process.cpu_s()
        received = await self._side.stream(seconds, self._streams)
        used = self._side.server.process.cpu_s() - before
        self.cpu_us.append(used * 1_000_000 / (self._streams * CHUNKS_A_SECOND * (seconds + SETTLE_S)))
        self.p50_ms.append(received.delay_ms(0.5))
        self.p99_ms.append(received.delay_ms(0.99))
        return self.p50_ms[-1]

    def drop_warm_up(self) -> None:
        """Drop the first round."""
        for figures in (self.p50_ms, self.p99_ms, self.cpu_us):
            del figures[0]


async def run(plan: Plan) -> list[Measurement]:
    """Return chunks per second at saturation, and the chunk delay at 100 streams."""
    plan = replace(plan, rounds=min(plan.rounds, MOST_ROUNDS))
    async with open_sides() as sides:
        rate = await _saturating(sides["litellm"])
        full = await plan.interleave({name: sides[name].per_second(rate) for name in ("litellm", "turnlog")})
        delays = {name: Delays(side, SUSTAINED) for name, side in sides.items()}
        await plan.interleave({name: each.work for name, each in delays.items()})
    for each in delays.values():
        each.drop_warm_up()
    return [_at_saturation(full, rate), *_below(delays)]


def _at_saturation(full: dict[str, list[float]], rate: float) -> Measurement:
    measure = f"{STREAMS} streams, {STREAMS * rate:,.0f} chunks/s demanded"
    return Measurement(NAME, measure, "chunks/s", full["turnlog"], LITELLM, full["litellm"], Target(1.0))


def _below(delays: dict[str, Delays]) -> list[Measurement]:
    """Return the measurements below saturation.

    The targets bound Turnlog's whole delay, not only its addition to the passthrough's.
    """
    ours, theirs, at_rate = delays["turnlog"], delays["openai"], f"{SUSTAINED} streams at {CHUNKS_A_SECOND} chunks/s"
    p50, p99 = Target(5, at_least=False, of_ratio=False), Target(40, at_least=False, of_ratio=False)
    through_litellm = delays["litellm"].cpu_us
    return [
        Measurement(NAME, f"delay of a chunk, p50, {at_rate}", "ms", ours.p50_ms, OPENAI, theirs.p50_ms, p50),
        Measurement(NAME, f"delay of a chunk, p99, {at_rate}", "ms", ours.p99_ms, OPENAI, theirs.p99_ms, p99),
        Measurement(NAME, f"server CPU per chunk, {at_rate}", "µs", ours.cpu_us, OPENAI, theirs.cpu_us),
        Measurement(NAME, f"server CPU per chunk, {at_rate}", "µs", ours.cpu_us, LITELLM, through_litellm),
    ]


async def _saturating(passthrough: Side) -> float:
    """Return the chunks per second and stream that saturate the passthrough.

    The rate starts at 30 and doubles.
    """
    paces = 1
    while paces < MOST_PACES:
        rate = CHUNKS_A_SECOND * paces
        if (await passthrough.stream(1.0, STREAMS, rate)).per_second < SATURATED * STREAMS * rate:
            break
        paces *= 2
    return CHUNKS_A_SECOND * paces


@asynccontextmanager
async def open_sides() -> AsyncGenerator[dict[str, Side]]:
    """Run the model server, the passthrough app and Turnlog."""
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(launch(*model_server()))
        passthrough = await stack.enter_async_context(loaded(*passthrough_app(_api(models))))
        turnlog = await stack.enter_async_context(serve(*turnlog_serve(), TURNLOG_MODEL_API_BASE=_api(models)))
        yield {
            "litellm": Side(passthrough, "/litellm"),
            "openai": Side(passthrough, "/openai"),
            "turnlog": Side(turnlog, "/v1/turns"),
        }


def _api(models: Process) -> str:
    return f"{models.url}/v1"
