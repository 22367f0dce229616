"""Pages of the listing and of a history at 8 connections, against an empty GET."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import NamedTuple
from urllib.parse import quote, urlencode

import psycopg

from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.generator import BEGINNING, write_log
from benchmarks.workload.load import get
from benchmarks.workload.one_owner import MESSAGES_OF_EACH, STEP_US, one_owners_events
from benchmarks.workload.serving import Server, empty_app, serve
from projections.catalog import PROJECTIONS, install
from projections.models.json_resources import rfc3339
from projections.rebuild.builder import BuildStep, open_builder
from projections.rebuild.rebuild import rebuild

NAME = "listing"
CONNECTIONS = 8
WORKERS = 2
LATER_PAGE = 50
MESSAGES_OF_A_PAGE = 50
EMPTY, BASELINE = "/empty", "an empty GET"


class Page(NamedTuple):
    """A request, whether its answer has rows, and whether an index finds them.

    No index finds titles and metadata. Where few conversations match, all of the owner's are read.
    """

    path: str
    has_rows: bool = True
    has_index: bool = True


class Reads:
    """Rounds of one request: its rate, and two percentiles of its time."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._requests = [(get(path),)]
        self.per_second: list[float] = []
        self.p50_ms: list[float] = []
        self.p99_ms: list[float] = []

    async def work(self, seconds: float) -> float:
        """Run a round and return its requests per second."""
        served = await self._server.load(self._requests, seconds, connections=CONNECTIONS)
        for figures, figure in zip(self._figures(), (served.per_second, served.p50_ms, served.p99_ms), strict=True):
            figures.append(figure)
        return served.per_second

    def drop_warm_up(self) -> None:
        """Drop the first round."""
        for figures in self._figures():
            del figures[0]

    def _figures(self) -> tuple[list[float], list[float], list[float]]:
        return self.per_second, self.p50_ms, self.p99_ms


async def run(plan: Plan) -> list[Measurement]:
    """Return requests per second and times of every kind of page."""
    await make(plan.conninfo, plan.events)
    async with serve(*empty_app(plan.conninfo)) as server:
        pages = await asyncio.to_thread(make_pages, server, plan.events // MESSAGES_OF_EACH)
        empty, reads = Reads(server, EMPTY), {name: Reads(server, page.path) for name, page in pages.items()}
        await plan.interleave({name: each.work for name, each in {EMPTY: empty, **reads}.items()})
    for each in (empty, *reads.values()):
        each.drop_warm_up()
    return [line for name, page in pages.items() for line in _measured(name, page, reads[name], empty)]


async def make(conninfo: str, messages: int) -> None:
    """Write the log of one owner, and build all read models."""
    await asyncio.to_thread(write_log, conninfo, "turnlog", one_owners_events(messages))
    await asyncio.to_thread(install, conninfo)
    async with open_builder(conninfo, "turnlog", WORKERS, _ignore) as builder:
        await rebuild(builder, PROJECTIONS)
    await asyncio.to_thread(_vacuum, conninfo)


def make_pages(server: Server, conversations: int) -> dict[str, Page]:
    """Return the pages to measure, by name.

    Raises:
        ValueError: the answer of one is not what its measure says.
    """
    middle, late = (_time(part * conversations) for part in (0.5, 0.95))
    sorts = {f"sort={sort}": {"sort": sort} for sort in ("active", "created", "title")}
    filters: dict[str, dict[str, str]] = {
        "agent_id": {"agent_id": "agent-3"},
        "status=idle": {"status": "idle"},
        "active_after": {"active_after": late},
        "active_before": {"active_before": middle},
        "q": {"q": "a"},
        "metadata": {"metadata.plan": "pro"},
        "agent_id, status and active_before": {"agent_id": "agent-3", "status": "idle", "active_before": middle},
        "active_before, sort=created": {"active_before": middle, "sort": "created"},
        "active_after, sort=title": {"active_after": late, "sort": "title"},
        "status=idle, sort=title": {"status": "idle", "sort": "title"},
    }
    # All conversations are idle. An index on the order alone would be read to its end.
    nothing: dict[str, dict[str, str]] = {
        "status=running": {"status": "running"},
        "status=running, sort=created": {"status": "running", "sort": "created"},
    }
    unindexed = {"q": {"q": "no such title"}, "metadata": {"metadata.plan": "none"}}
    first, later = (f"page {number} of {conversations:,} conversations" for number in (1, LATER_PAGE))
    none = "none found"
    pages = {
        **{f"{first}, {name}": Page(_list(given)) for name, given in {**sorts, **filters}.items()},
        **{f"{first}, {name}, {none}": Page(_list(given), has_rows=False) for name, given in nothing.items()},
        **{f"{first}, {name}, {none}": Page(_list(given), False, False) for name, given in unindexed.items()},
        **{f"{later}, {name}": Page(_later(server, given)) for name, given in sorts.items()},
        f"{MESSAGES_OF_A_PAGE} messages": Page(_history(server)),
    }
    for name, page in pages.items():
        if bool(server.get(page.path)["data"]) != page.has_rows:
            raise ValueError(f"{name}: {'nothing was' if page.has_rows else 'conversations were'} found")
    return pages


def _later(server: Server, given: dict[str, str]) -> str:
    """Return the request of the 50th page, or of the last one of a short listing."""
    path = _list(given)
    for _ in range(LATER_PAGE - 1):
        if (cursor := server.get(path)["next_cursor"]) is None:
            break
        path = _list({**given, "cursor": cursor})
    return path


def _history(server: Server) -> str:
    """Return the request of the history of a long conversation.

    Raises:
        ValueError: no conversation has so many messages.
    """
    page = server.get(_list({"limit": "100", "sort": "created"}))
    longest = max(page["data"], key=lambda conversation: conversation["message_count"])
    if longest["message_count"] < MESSAGES_OF_A_PAGE:
        raise ValueError(f"the longest conversation has {longest['message_count']} messages")
    return f"/v1/conversations/{longest['id']}/messages?limit={MESSAGES_OF_A_PAGE}"


def _list(given: dict[str, str]) -> str:
    return f"/v1/conversations?{urlencode(given, quote_via=quote)}"


def _time(conversations: float) -> str:
    return rfc3339(BEGINNING + timedelta(microseconds=conversations * STEP_US)) or ""


def _measured(name: str, page: Page, reads: Reads, empty: Reads) -> list[Measurement]:
    line = partial(Measurement, NAME)
    rate, p99 = (Target(0.4), Target(15, at_least=False, of_ratio=False)) if page.has_index else (None, None)
    return [
        line(name, "requests/s", reads.per_second, BASELINE, empty.per_second, rate),
        line(f"{name}, p50", "ms", reads.p50_ms, BASELINE, empty.p50_ms),
        line(f"{name}, p99", "ms", reads.p99_ms, BASELINE, empty.p99_ms, p99),
    ]


def _vacuum(conninfo: str) -> None:
    """Leave nothing to autovacuum, which would work while the requests are measured."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _ignore(step: BuildStep) -> None:
    pass
