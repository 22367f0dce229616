"""`turnlog projections`: how far the read models have come, and building them anew."""

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
from cli.progress_bars import shown_progress
from cli.terminal import visible, visible_json
from eventlog.db.database import Database
from projections.catalog import PROJECTIONS, named
from projections.errors import UnknownProjectionError
from projections.projection import Projection
from projections.rebuild import rebuild as rebuilding
from projections.rebuild import verify as verifying
from projections.rebuild.building import Builder, open_builder
from projections.rebuild.comparing import Comparison
from projections.rebuild.past import build_past
from projections.status import LogStatus, Status, read_status

FAILED, DIFFERENT = 1, 3
PAST = """\
The read model as of position {position} is in schema {schema}: {names}.
  query  SELECT title, message_count FROM {schema}.listing WHERE NOT deleted;
  drop   DROP SCHEMA {schema} CASCADE;"""

_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")

T = TypeVar("T")
Say = Callable[[str], None]
"""How a command prints a result while progress is shown."""
Work = Callable[[Builder, Say], Awaitable[T]]

_workers = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=min(os.cpu_count() or 1, 8),
    help="Processes that load.",
)


@click.group()
def projections() -> None:
    """Look after the read models."""


@projections.command()
@database_options
def status(data_dir: Path | None, database_url: str | None) -> None:
    """Print each projection's version, position and lag, and what stopped it; exit code 1 if one is stopped."""
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
@click.option("--rollback", is_flag=True, help="Let the build that was read before the last one be read again.")
@click.option("--prune", is_flag=True, help="Drop builds that are not read any more.")
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
    """Build projections anew beside what is read, then switch; the last build is kept for --rollback until --prune.

    Reads and writes go on meanwhile. A rebuild that was interrupted goes on where it was.
    """
    chosen = _chosen(names, every=every)
    if rollback and prune:
        raise WrongUseError("--rollback and --prune exclude each other.")
    work = _prune if prune else _roll_back if rollback else _rebuild
    _build(data_dir, database_url, workers, lambda builder, say: work(builder, say, chosen))


@projections.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="Verify every projection.")
@_workers
@database_options
def verify(
    names: tuple[str, ...], workers: int, data_dir: Path | None, database_url: str | None, *, every: bool
) -> None:
    """Build projections once more and compare them row by row with what is read; exit code 3 if they differ."""
    chosen = _chosen(names, every=every)
    differing = _build(data_dir, database_url, workers, lambda builder, say: _verify(builder, say, chosen))
    if differing:
        raise SystemExit(DIFFERENT)


@projections.command()
@click.option("--as-of", required=True, metavar="WHEN", help="A log position, or a time such as 2026-05-01T12:00:00Z.")
@click.option("--schema", required=True, metavar="NAME", help="The schema to make.")
@_workers
@database_options
def build(as_of: str, schema: str, workers: int, data_dir: Path | None, database_url: str | None) -> None:
    """Leave the whole read model as it was at a position or time in a schema of its own, for queries."""
    when = _when(as_of)
    if not _SCHEMA.fullmatch(schema):
        raise WrongUseError(f"--schema {schema}: use up to 40 of a-z, 0-9 and _, not beginning with a digit or pg_.")
    _build(data_dir, database_url, workers, lambda builder, say: _build_past(builder, say, when, schema))


def _chosen(names: tuple[str, ...], *, every: bool) -> list[Projection]:
    if bool(names) == every:
        raise WrongUseError("Name the projections, or say --all.")
    try:
        return list(PROJECTIONS) if every else [named(name) for name in dict.fromkeys(names)]
    except UnknownProjectionError as error:
        raise WrongUseError(str(error)) from None


def _when(as_of: str) -> int | datetime:
    if as_of.isdecimal() and as_of.isascii() and len(as_of) <= 100:
        return int(as_of)
    try:
        when = datetime.fromisoformat(as_of)
    except ValueError:
        raise WrongUseError(f"--as-of {as_of}: neither a log position nor a time like 2026-05-01T12:00:00Z.") from None
    if when.tzinfo is None:
        raise WrongUseError(f"--as-of {as_of}: say which time zone, such as Z for UTC.")
    return when


def _build(data_dir: Path | None, database_url: str | None, workers: int, work: Work[T]) -> T:
    async def run(opened: ExistingLog) -> T:
        with shown_progress() as progress:
            async with open_builder(opened.conninfo, opened.schema, workers, progress.report) as builder:
                return await work(builder, progress.say)

    with existing_log(data_dir, database_url, writes=True) as opened:
        return asyncio.run(run(opened))


async def _rebuild(builder: Builder, say: Say, chosen: list[Projection]) -> None:
    await rebuilding.rebuild(builder, chosen, lambda switched: say(_switched(switched)))


async def _roll_back(builder: Builder, say: Say, chosen: list[Projection]) -> None:
    for switched in await rebuilding.roll_back(builder, chosen):
        say(_switched(switched))


async def _prune(builder: Builder, say: Say, chosen: list[Projection]) -> None:
    for dropped in await rebuilding.prune(builder, chosen):
        say(f"{dropped.name} version {dropped.version} build {dropped.build} ({dropped.state}) was dropped.")


async def _verify(builder: Builder, say: Say, chosen: list[Projection]) -> bool:
    compared = await verifying.verify(builder, chosen)
    for comparison in compared:
        say(_compared(comparison))
    return any(comparison.differing for comparison in compared)


async def _build_past(builder: Builder, say: Say, when: int | datetime, schema: str) -> None:
    past = await build_past(builder, PROJECTIONS, when, schema)
    say(PAST.format(position=past.position, schema=schema, names=", ".join(past.names)))


def _switched(switched: rebuilding.Switched) -> str:
    before = f" instead of build {switched.instead_of.build}" if switched.instead_of else ""
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
