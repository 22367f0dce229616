"""`POST …/messages` with its read-your-writes wait, against an empty endpoint."""

import asyncio
from itertools import chain
from typing import NamedTuple

import psycopg

from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.load import post
from benchmarks.workload.paced import REQUESTS_A_SECOND, Groups, Paced
from benchmarks.workload.serving import Server, empty_app, serve
from benchmarks.workload.texts import turns
from eventlog.db.statements import load_statements

NAME = "post_messages_http"
EMPTY = [(post("/empty", b"{}"),)]
BASELINE = "an empty POST"

_SQL = load_statements("benchmarks.requests", "post_messages_http.sql")


class BytesPerMessage(NamedTuple):
    """Bytes divided by the number of messages.

    `log` is the table `events` with its indexes. `everything` is all tables of the schema with theirs.
    """

    log: float
    everything: float
    text: float


async def run(plan: Plan) -> list[Measurement]:
    """Return requests per second, then latency and costs at a fixed rate."""
    async with serve(*empty_app(plan.conninfo)) as server:
        messages = [(request,) for request in chain.from_iterable(server.turns(turns()))]
        full = await plan.interleave({"empty": _per_second(server, EMPTY), "messages": _per_second(server, messages)})
        paced = {"empty": Paced(server, EMPTY), "messages": Paced(server, messages)}
        await plan.interleave({name: each.work for name, each in paced.items()})
    for each in paced.values():
        each.drop_warm_up()
    at_rest = await asyncio.to_thread(bytes_per_message, plan.conninfo)
    return [_full(full), *_paced(paced["messages"], paced["empty"]), *_at_rest(at_rest)]


def bytes_per_message(conninfo: str) -> BytesPerMessage:
    """Return the disk space of a log and its read models, dead rows included."""
    with psycopg.connect(conninfo, options="-c search_path=turnlog") as connection:
        row = connection.execute(_SQL["read_bytes_per_message"]).fetchone()
    assert row
    return BytesPerMessage(*row)


def _per_second(server: Server, groups: Groups) -> Round:
    async def work(seconds: float) -> float:
        return (await server.load(groups, seconds)).per_second

    return work


def _full(figures: dict[str, list[float]]) -> Measurement:
    measure, target = "POST messages, 32 connections", Target(0.3)
    return Measurement(NAME, measure, "requests/s", figures["messages"], BASELINE, figures["empty"], target)


def _paced(messages: Paced, empty: Paced) -> list[Measurement]:
    rate, target = f"at {REQUESTS_A_SECOND:,} requests/s", Target(25, at_least=False, of_ratio=False)
    return [
        Measurement(NAME, f"p99 {rate}, open loop", "ms", messages.p99_ms, BASELINE, empty.p99_ms, target),
        Measurement(NAME, f"server CPU per message {rate}", "µs", messages.cpu_us, BASELINE, empty.cpu_us),
    ]


def _at_rest(found: BytesPerMessage) -> list[Measurement]:
    measure, baseline = "bytes at rest per message", ("the messages' text", [found.text])
    return [
        Measurement(NAME, f"{measure}, the log alone", "bytes", [found.log], *baseline),
        Measurement(NAME, f"{measure}, with all read models", "bytes", [found.everything], *baseline),
    ]
