"""The processor time of authenticated requests, against those of an open server."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import chain

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.bearers import Mode, make_modes
from benchmarks.workload.load import get
from benchmarks.workload.paced import REQUESTS_A_SECOND, Groups, Paced
from benchmarks.workload.serving import Server, serve, turnlog_serve
from benchmarks.workload.texts import turns

NAME = "authentication"
BASELINE = "TURNLOG_AUTH=none"
GET, POST = "GET of a conversation", "POST of a message"
# Processes with one seed keep their dictionaries alike. They would differ by some per cent otherwise.
SAME_HASHES = {"PYTHONHASHSEED": "0"}
# The default depends on whether stderr is a terminal. A line for each request would hide a part of the difference.
NO_LINES = {"TURNLOG_LOG_LEVEL": "warning"}


async def run(plan: Plan) -> list[Measurement]:
    """Return the server's processor time per GET and per POST in each mode.

    Each mode has a server and a log of its own. A second open server shows how far two equal ones differ.
    """
    modes = await make_modes(plan.conninfo)
    paced: dict[str, dict[str, Paced]] = {GET: {}, POST: {}}
    async with AsyncExitStack() as stack:
        for mode in modes:
            server = await stack.enter_async_context(_serve(plan.conninfo, mode))
            gets, posts = await asyncio.to_thread(_groups, server, mode)
            paced[GET][mode.name], paced[POST][mode.name] = Paced(server, gets), Paced(server, posts)
        # A GET of each mode, then a POST of each mode: what is compared is close in time.
        sides = {f"{kind}, {name}": each for kind, by_mode in paced.items() for name, each in by_mode.items()}
        await plan.interleave({name: each.work for name, each in sides.items()})
    for each in sides.values():
        each.drop_warm_up()
    open_mode, *others = modes
    return [
        _measured(f"{kind}, {mode.name}", mode, by_mode[mode.name], by_mode[open_mode.name])
        for kind, by_mode in paced.items()
        for mode in others
    ]


def _serve(conninfo: str, mode: Mode) -> AbstractAsyncContextManager[Server]:
    return serve(*turnlog_serve(conninfo), bearer=mode.bearer, **mode.settings, **SAME_HASHES, **NO_LINES)


def _groups(server: Server, mode: Mode) -> tuple[Groups, Groups]:
    """Return GETs of conversations, and POSTs of messages to such conversations."""
    messages = [(request,) for request in chain.from_iterable(server.turns(turns()))]
    page = server.get("/v1/conversations?limit=100")
    return [(get(f"/v1/conversations/{each['id']}", mode.bearer),) for each in page["data"]], messages


def _measured(what: str, mode: Mode, paced: Paced, open_paced: Paced) -> Measurement:
    measure = f"server CPU, {what} at {REQUESTS_A_SECOND:,} requests/s"
    target = Target(1.1, at_least=False) if mode.bearer else None
    return Measurement(NAME, measure, "µs", paced.cpu_us, BASELINE, open_paced.cpu_us, target)
