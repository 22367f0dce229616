"""The import of a whole log, against an INSERT inside PostgreSQL."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from psycopg import sql

from audit.exports.export_manifest import ExportFilter, ExportFormat
from audit.exports.log_export import export_log, plan_export
from audit.exports.log_import import import_log
from benchmarks.audits.exports import MOST_ROUNDS, ExportRun, Exports, in_own_process
from benchmarks.machine import peak_mb, postgresql_cpu_s
from benchmarks.measure import Measurement, Plan, Target
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.migrations import migrate

NAME = "imports"
BASELINE = "INSERT … SELECT of the same rows into the same table, inside PostgreSQL"
SCHEMA = "imported"

_SQL = load_statements("benchmarks.audits", "imports.sql")


class Imports:
    """Imports of one log, each into a new log, by a process of its own."""

    def __init__(self, conninfo: str, events: int, directory: Path) -> None:
        self._conninfo = conninfo
        self._events = events
        self._directory = directory
        self._database = Database(conninfo)
        self.runs: dict[ExportFormat, list[ExportRun]] = {"jsonl": [], "parquet": []}

    async def make(self) -> None:
        """Create the log and export it in each format."""
        await Exports(self._conninfo, self._events).make()
        await self._database.open()
        try:
            for name in self.runs:
                plan = await plan_export(self._database, name, ExportFilter())
                path = self._directory / name
                await asyncio.to_thread(export_log, self._conninfo, self._database.schema, path, plan)
        finally:
            await self._database.close()

    async def imported(self, format_name: ExportFormat, _: float) -> float:
        """Import the log and return events per second."""
        await asyncio.to_thread(migrate, self._conninfo, SCHEMA)
        run = await in_own_process(partial(_import, self._conninfo, self._directory / format_name, self._events))
        self.runs[format_name].append(run)
        await self._drop()
        return self._events / run.seconds

    async def inserted(self, _: float) -> float:
        """Insert the rows inside PostgreSQL and return events per second."""
        await asyncio.to_thread(migrate, self._conninfo, SCHEMA)
        async with await self._database.connect(durable=True) as connection:
            start = perf_counter()
            names = {"events": sql.Identifier(SCHEMA, "events"), "kind": sql.Identifier(SCHEMA, "aggregate_kind")}
            await connection.execute(sql.SQL(_SQL["copy_rows"]).format(**names))
            seconds = perf_counter() - start
        await self._drop()
        return self._events / seconds

    async def _drop(self) -> None:
        async with await self._database.connect() as connection:
            await connection.execute(sql.SQL(_SQL["drop_schema"]).format(schema=sql.Identifier(SCHEMA)))


async def run(plan: Plan) -> list[Measurement]:
    """Return events per second of imports in both formats, and peak memory."""
    with TemporaryDirectory() as directory:
        imports = Imports(plan.conninfo, plan.events, Path(directory))
        await imports.make()
        figures = await replace(plan, rounds=min(plan.rounds, MOST_ROUNDS)).interleave(
            {
                "insert": imports.inserted,
                "jsonl": partial(imports.imported, "jsonl"),
                "parquet": partial(imports.imported, "parquet"),
            }
        )
    fast, memory = Target(50_000, of_ratio=False), Target(300, at_least=False, of_ratio=False)
    names: dict[ExportFormat, str] = {"jsonl": "JSON Lines", "parquet": "Parquet"}
    return [
        line
        for name, title in names.items()
        for line in (
            Measurement(
                NAME, f"{title}, {plan.events:,} events", "events/s", figures[name], BASELINE, figures["insert"], fast
            ),
            Measurement(
                NAME, f"{title}, peak memory", "MB", [each.peak_mb for each in imports.runs[name]], target=memory
            ),
        )
    ]


def _import(conninfo: str, path: Path, events: int) -> ExportRun:
    start, used, served = perf_counter(), process_time(), postgresql_cpu_s(conninfo)
    found = asyncio.run(import_log(Database(conninfo, SCHEMA), path))
    seconds = perf_counter() - start
    assert found.events == events
    return ExportRun(seconds, process_time() - used + postgresql_cpu_s(conninfo) - served, peak_mb())
