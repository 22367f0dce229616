"""`turnlog log export` in both formats, against COPY to nowhere."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

from audit.exports.export_manifest import ExportFilter, ExportFormat, ExportPlan
from audit.exports.log_export import export_log, plan_export
from audit.seals.sealer import Sealer
from benchmarks.machine import peak_mb, postgresql_cpu_s
from benchmarks.measure import Measurement, Plan, Target
from benchmarks.workload.generator import make_log
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.opening import open_log

NAME = "exports"
BASELINE = "COPY (SELECT …) TO '/dev/null' of the same rows"
MOST_ROUNDS = 3

_SQL = load_statements("benchmarks.audits", "exports.sql")


class ExportRun(NamedTuple):
    """The time of an export or an import, and the peak memory of its process.

    The processor time is that of its process and of PostgreSQL.
    """

    seconds: float
    cpu_s: float
    peak_mb: float


class Exports:
    """Exports of one sealed log, each by a process of its own, as the command is one."""

    def __init__(self, conninfo: str, events: int) -> None:
        self._conninfo = conninfo
        self._events = events
        self._database = Database(conninfo)
        self.runs: dict[ExportFormat, list[ExportRun]] = {"jsonl": [], "parquet": []}

    async def make(self) -> None:
        """Create the log and seal it."""
        await asyncio.to_thread(make_log, self._conninfo, self._database.schema, self._events)
        async with open_log(self._conninfo, listening=False) as opened:
            await Sealer(opened.database, opened.feed, interval_s=0.0).seal()

    async def exported(self, format_name: ExportFormat, _: float) -> float:
        """Export the whole log and return events per second."""
        run = await in_own_process(partial(_export, self._conninfo, format_name, self._events))
        self.runs[format_name].append(run)
        return self._events / run.seconds

    async def copied(self, _: float) -> float:
        """Copy the whole log to nowhere and return events per second."""
        async with await self._database.connect() as connection:
            start = perf_counter()
            await connection.execute(_SQL["copy_to_nowhere"])
            return self._events / (perf_counter() - start)


async def run(plan: Plan) -> list[Measurement]:
    """Return events per second of exports, the same for each core, and peak memory."""
    exports = Exports(plan.conninfo, plan.events)
    await exports.make()
    figures = await replace(plan, rounds=min(plan.rounds, MOST_ROUNDS)).interleave(
        {
            "copy": exports.copied,
            "jsonl": partial(exports.exported, "jsonl"),
            "parquet": partial(exports.exported, "parquet"),
        }
    )
    lines, parquet = exports.runs["jsonl"], exports.runs["parquet"]
    measure = f"JSON Lines, {plan.events:,} events"
    columns = f"Parquet, {plan.events:,} events"
    for_core = [plan.events / each.cpu_s for each in parquet]
    memory = Target(300, at_least=False, of_ratio=False)
    return [
        Measurement(NAME, measure, "events/s", figures["jsonl"], BASELINE, figures["copy"], Target(0.5)),
        Measurement(NAME, columns, "events/s", figures["parquet"], BASELINE, figures["copy"]),
        Measurement(
            NAME,
            f"{columns}, per second of processor time, PostgreSQL's included",
            "events/s",
            for_core,
            target=Target(100_000, of_ratio=False),
        ),
        Measurement(NAME, "JSON Lines, peak memory", "MB", [each.peak_mb for each in lines], target=memory),
        Measurement(NAME, "Parquet, peak memory", "MB", [each.peak_mb for each in parquet], target=memory),
    ]


async def in_own_process(work: partial[ExportRun]) -> ExportRun:
    """Return the result of some work in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, work)


def _export(conninfo: str, format_name: ExportFormat, events: int) -> ExportRun:
    with TemporaryDirectory() as directory:
        start, used, served = perf_counter(), process_time(), postgresql_cpu_s(conninfo)
        plan = asyncio.run(_plan(conninfo, format_name))
        manifest = export_log(conninfo, "turnlog", Path(directory) / "export", plan)
        seconds = perf_counter() - start
        cpu_s = process_time() - used + postgresql_cpu_s(conninfo) - served
        assert manifest.count == events
        return ExportRun(seconds, cpu_s, peak_mb())


async def _plan(conninfo: str, format_name: ExportFormat) -> ExportPlan:
    database = Database(conninfo)
    await database.open()
    try:
        return await plan_export(database, format_name, ExportFilter())
    finally:
        await database.close()
