"""Chunks of many models handed on at once by `turnlog serve`, against passthroughs that store nothing."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from benchmarks.measure import Measurement, Plan, Round, Target
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
from benchmarks.workload.speech import CHUNKS_A_SECOND, SETTLE_S, Speech, coming_script, listen

NAME = "streams"
STREAMS = 200
MOST_PACES = 8
SATURATED = 0.9
MOST_ROUNDS = 3
SUSTAINED = 100

LITELLM = "a FastAPI passthrough of litellm"
OPENAI = "a passthrough of the OpenAI library's stream"


class Side(NamedTuple):
    """A server that streams, and the route that does it; only Turnlog goes on where nobody listens."""

    server: Server
    path: str

    async def speech(self, seconds: float, streams: int, rate: float = CHUNKS_A_SECOND) -> Speech:
        """Let models speak for so long."""
        script = coming_script(seconds, streams, rate)
        return await listen(self.server, self.path, script, streams, to_the_end=self.path == "/v1/turns")

    def per_second(self, rate: float) -> Round:
        """Return a round that counts the chunks a second of 200 streams."""

        async def work(seconds: float) -> float:
            return (await self.speech(seconds, STREAMS, rate)).per_second

        return work


class Delays:
    """Rounds of a side below saturation: the delay of chunks, and the server's processor time for one."""

    def __init__(self, side: Side, streams: int) -> None:
        self._side = side
        self._streams = streams
        self.p50_ms: list[float] = []
        self.p99_ms: list[float] = []
        self.cpu_us: list[float] = []

    async def work(self, seconds: float) -> float:
        """Let the models speak; the processor time is that of whole streams, their starts and ends included."""
        before = self._side.server.process.cpu_s()
        speech = await self._side.speech(seconds, self._streams)
        used = self._side.server.process.cpu_s() - before
        self.cpu_us.append(used * 1_000_000 / (self._streams * CHUNKS_A_SECOND * (seconds + SETTLE_S)))
        self.p50_ms.append(speech.delay_ms(0.5))
        self.p99_ms.append(speech.delay_ms(0.99))
        return self.p50_ms[-1]

    def forget_warm_up(self) -> None:
        """Drop the first round."""
        for figures in (self.p50_ms, self.p99_ms, self.cpu_us):
            del figures[0]


async def run(plan: Plan) -> list[Measurement]:
    """Return chunks a second at saturation, and the delay of a chunk at 100 streams."""
    plan = replace(plan, rounds=min(plan.rounds, MOST_ROUNDS))
    async with open_sides() as sides:
        rate = await _saturating(sides["litellm"])
        full = await plan.interleave({name: sides[name].per_second(rate) for name in ("litellm", "turnlog")})
        delays = {name: Delays(side, SUSTAINED) for name, side in sides.items()}
        await plan.interleave({name: each.work for name, each in delays.items()})
    for each in delays.values():
        each.forget_warm_up()
    return [_at_saturation(full, rate), *_below(delays)]


def _at_saturation(full: dict[str, list[float]], rate: float) -> Measurement:
    measure = f"{STREAMS} streams, {STREAMS * rate:,.0f} chunks/s demanded"
    return Measurement(NAME, measure, "chunks/s", full["turnlog"], LITELLM, full["litellm"], Target(0.7))


def _below(delays: dict[str, Delays]) -> list[Measurement]:
    """The targets are for what Turnlog adds to a passthrough; its whole delay has to keep them."""
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
    """Return the pace of a stream, 30 chunks a second or a multiple, at which the passthrough does not keep up."""
    paces = 1
    while paces < MOST_PACES:
        rate = CHUNKS_A_SECOND * paces
        if (await passthrough.speech(1.0, STREAMS, rate)).per_second < SATURATED * STREAMS * rate:
            break
        paces *= 2
    return CHUNKS_A_SECOND * paces


@asynccontextmanager
async def open_sides() -> AsyncGenerator[dict[str, Side]]:
    """Run the model server, the passthrough and Turnlog."""
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
