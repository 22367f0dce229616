"""`turnlog projections`: show, rebuild and verify the read models."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import click
from pydantic_core import to_json

from cli.database_options import ExistingLog, WrongUseError, database_options, existing_log
from cli.progress_bars import show_progress
from cli.reading.moments import moment_of
from cli.terminal import visible, visible_json
from eventlog.db.database import Database
from projections.catalog import PROJECTIONS, find_projection
from projections.errors import UnknownProjectionError
from projections.projection import Projection
from projections.rebuild import rebuild as rebuilding
from projections.rebuild import verify as verifying
from projections.rebuild.builder import Builder, open_builder
from projections.rebuild.comparison import Comparison
from projections.rebuild.past import build_past
from projections.status import LogStatus, Status, read_status

FAILED, DIFFERENT = 1, 3
PAST = """\
The read model as of position {position} is in schema {schema}: {names}.
  query  SELECT title, message_count FROM {schema}.listing WHERE NOT deleted;
  drop   DROP SCHEMA {schema} CASCADE;"""

_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")

T = TypeVar("T")
Print = Callable[[str], None]
"""Prints a result while progress is shown."""
Work = Callable[[Builder, Print], Awaitable[T]]

_workers = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=min(os.cpu_count() or 1, 8),
    help="Number of loading processes.",
)


@click.group()
def projections() -> None:
    """Show, rebuild and verify the read models."""


@projections.command()
@database_options
def status(data_dir: Path | None, database_url: str | None) -> None:
    """Print the version, position, lag and error of each projection.

    Exits with 1 if a projection is stopped.
    """
    with existing_log(data_dir, database_url) as opened:
        found = asyncio.run(_status(opened.conninfo, opened.schema))
    click.echo(f"log position {found.head}")
    click.echo(f"{'NAME':<12} {'VERSION':>7} {'BUILD':>5} {'POSITION':>12} {'LAG':>10} {'LAG TIME':>9}  STATE")
    for row in found.projections:
        build, position = (row.live.build, row.live.position) if row.live else ("-", 0)
        click.echo(
            f"{row.name:<12} {row.version:>7} {build:>5} {position:>12} {row.lag_events:>10} {row.lag_s:>8.1f}s"
            f"  {_state(row)}"
        )
    if any(row.stopped for row in found.projections):
        raise SystemExit(FAILED)


async def _status(conninfo: str, schema: str) -> LogStatus:
    database = Database(conninfo, schema)
    await database.open()
    try:
        return await read_status(database, PROJECTIONS)
    finally:
        await database.close()


@projections.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="Rebuild every projection.")
@_workers
@click.option("--rollback", is_flag=True, help="Switch back to the previous build.")
@click.option("--prune", is_flag=True, help="Drop builds that are no longer read.")
@database_options
def rebuild(
    names: tuple[str, ...],
    workers: int,
    data_dir: Path | None,
    database_url: str | None,
    *,
    every: bool,
    rollback: bool,
    prune: bool,
) -> None:
    """Rebuild projections and switch to the new builds.

    Reads and writes go on meanwhile. The next rebuild resumes an interrupted one. The previous build is kept for
    --rollback until --prune.
    """
    chosen = _chosen(names, every=every)
    if rollback and prune:
        raise WrongUseError("--rollback and --prune cannot be combined.")
    work = _prune if prune else _roll_back if rollback else _rebuild
    _build(data_dir, database_url, workers, lambda builder, print_result: work(builder, print_result, chosen))


@projections.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="Verify every projection.")
@_workers
@database_options
def verify(
    names: tuple[str, ...], workers: int, data_dir: Path | None, database_url: str | None, *, every: bool
) -> None:
    """Compare projections with a new build of each.

    The comparison is row by row. Exits with 3 if rows differ.
    """
    chosen = _chosen(names, every=every)
    differing = _build(
        data_dir, database_url, workers, lambda builder, print_result: _verify(builder, print_result, chosen)
    )
    if differing:
        raise SystemExit(DIFFERENT)


@projections.command()
@click.option("--as-of", required=True, metavar="WHEN", help="A log position, or a time such as 2026-05-01T12:00:00Z.")
@click.option("--schema", required=True, metavar="NAME", help="The schema to create.")
@_workers
@database_options
def build(as_of: str, schema: str, workers: int, data_dir: Path | None, database_url: str | None) -> None:
    """Write past read models into a new schema.

    They are as of a position of the log or a time, and meant for queries.
    """
    when = moment_of("--as-of", as_of)
    if not _SCHEMA.fullmatch(schema):
        raise WrongUseError(
            f"--schema {schema}: use at most 40 characters a-z, 0-9 and _, and do not begin with a digit or pg_."
        )
    _build(
        data_dir, database_url, workers, lambda builder, print_result: _build_past(builder, print_result, when, schema)
    )


def _chosen(names: tuple[str, ...], *, every: bool) -> list[Projection]:
    if bool(names) == every:
        raise WrongUseError("Name projections, or use --all.")
    try:
        return list(PROJECTIONS) if every else [find_projection(name) for name in dict.fromkeys(names)]
    except UnknownProjectionError as error:
        raise WrongUseError(str(error)) from None


def _build(data_dir: Path | None, database_url: str | None, workers: int, work: Work[T]) -> T:
    async def run(opened: ExistingLog) -> T:
        with show_progress() as progress:
            async with open_builder(opened.conninfo, opened.schema, workers, progress.report) as builder:
                return await work(builder, progress.print_result)

    with existing_log(data_dir, database_url, writes=True) as opened:
        return asyncio.run(run(opened))


async def _rebuild(builder: Builder, print_result: Print, chosen: list[Projection]) -> None:
    await rebuilding.rebuild(builder, chosen, lambda switched: print_result(_switched(switched)))


async def _roll_back(builder: Builder, print_result: Print, chosen: list[Projection]) -> None:
    for switched in await rebuilding.roll_back(builder, chosen):
        print_result(_switched(switched))


async def _prune(builder: Builder, print_result: Print, chosen: list[Projection]) -> None:
    for dropped in await rebuilding.prune(builder, chosen):
        print_result(f"{dropped.name} version {dropped.version} build {dropped.build} ({dropped.state}) was dropped.")


async def _verify(builder: Builder, print_result: Print, chosen: list[Projection]) -> bool:
    compared = await verifying.verify(builder, chosen)
    for comparison in compared:
        print_result(_compared(comparison))
    return any(comparison.differing for comparison in compared)


async def _build_past(builder: Builder, print_result: Print, when: int | datetime, schema: str) -> None:
    past = await build_past(builder, PROJECTIONS, when, schema)
    print_result(PAST.format(position=past.position, schema=schema, names=", ".join(past.names)))


def _switched(switched: rebuilding.Switched) -> str:
    before = f" instead of build {switched.replaced.build}" if switched.replaced else ""
    found = f"\n{_compared(switched.compared)}" if switched.compared else ""
    return f"{switched.projection} is read from now on{before}.{found}"


def _compared(comparison: Comparison) -> str:
    at = f"{comparison.name} at position {comparison.position}"
    if not comparison.differing:
        return f"{at}: {comparison.rows:,} rows, all the same."
    keys = [
        f"  {each.kind:<10} {each.table} {visible_json(to_json(each.key).decode())}" for each in comparison.differences
    ]
    more = [f"  and {comparison.differing - len(keys):,} more"] if comparison.differing > len(keys) else []
    return "\n".join([f"{at}: {comparison.differing:,} of {comparison.rows:,} rows differ.", *keys, *more])


def _state(row: Status) -> str:
    if row.stopped:
        return f"stopped at {row.stopped.error_position}: {visible(row.stopped.error or '')}"
    state = "running" if row.live else "waits for its build"
    if row.rebuild is None:
        return state
    how = "is" if row.rebuild.running else "was interrupted while"
    return f"{state}, build {row.rebuild.build} {how} {row.rebuild.phase}"
