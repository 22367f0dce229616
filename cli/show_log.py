"""`turnlog log`: print recorded events, for a terminal or as JSON lines."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import orjson

from cli.database_options import ExistingLog, FailedError, database_options, existing_log
from cli.prove_log import checkpoint, prove, verify
from cli.terminal import cut, visible, visible_json, width
from eventlog.log import Log
from eventlog.opening import OpenLog, open_log
from projections.models.json_resources import rfc3339

PAGE = 1000
DATA_WIDTH = 160
LEAST_DATA_WIDTH = 20
NARROW_INDENT = " " * 10
FOLLOW_POLL_S = 1.0

Work = Callable[[OpenLog], Coroutine[Any, Any, None]]
"""The work of a command on a log."""

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, with all data.")


@click.group()
def log() -> None:
    """Read and verify the event log."""


for _command in (verify, checkpoint, prove):
    log.add_command(_command)


@log.command()
@click.option("-n", "--lines", default=20, type=click.IntRange(1, PAGE), help="Number of events to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Also print new events, until Ctrl-C.")
@_as_json
@database_options
def tail(data_dir: Path | None, database_url: str | None, *, lines: int, follow: bool, as_json: bool) -> None:
    """Print the newest events."""

    async def work(opened: OpenLog) -> None:
        records = await opened.log.last_records(lines)
        _print(records, as_json)
        if follow:
            position = records[-1]["position"] if records else 0
            with opened.feed.subscribed() as wakeup:
                await _follow(opened.log, position, as_json, lambda: wakeup.wait(FOLLOW_POLL_S))

    _run(data_dir, database_url, work)


@log.command()
@click.argument("conversation", type=click.UUID)
@_as_json
@database_options
def show(conversation: UUID, data_dir: Path | None, database_url: str | None, *, as_json: bool) -> None:
    """Print all events of a conversation."""

    async def work(opened: OpenLog) -> None:
        version = 0
        while records := await opened.log.audit_records(conversation, version, PAGE):
            _print(records, as_json)
            version = records[-1]["version"]
        if version == 0:
            raise FailedError(f"No conversation {conversation}.")

    _run(data_dir, database_url, work)


async def _follow(log: Log, position: int, as_json: bool, wait: Callable[[], Awaitable[Any]]) -> None:
    while True:
        records = await log.records_between(position, position + PAGE)
        _print(records, as_json)
        if records:
            position = records[-1]["position"]
        else:
            await wait()


def _run(data_dir: Path | None, database_url: str | None, work: Work) -> None:
    with suppress(KeyboardInterrupt), existing_log(data_dir, database_url) as existing:
        asyncio.run(_with_log(existing, work))


async def _with_log(existing: ExistingLog, work: Work) -> None:
    # A standby refuses LISTEN. A command that follows it polls.
    async with open_log(existing.conninfo, existing.schema, listening=not existing.read_only) as opened:
        await work(opened)


def _print(records: list[dict[str, Any]], as_json: bool) -> None:
    columns = width()
    for record in records:
        click.echo(_json_line(record) if as_json else _line(record, columns))


def _json_line(record: dict[str, Any]) -> str:
    recorded_at = rfc3339(record["recorded_at"])
    line = orjson.dumps({**record, "data": orjson.Fragment(record["data"]), "recorded_at": recorded_at})
    return visible_json(line.decode())


def _line(record: dict[str, Any], columns: int | None) -> str:
    """Return an event as a line, or as two on a terminal that is too narrow."""
    id_ = record.get("conversation_id") or record["aggregate_id"]
    place = f"{record['position']:>8}  {rfc3339(record['recorded_at'])}  {id_}"
    what = f"v{record['version']:<5} {visible(record['type']):<20} "
    data = visible_json(record["data"][: max(DATA_WIDTH, columns or 0) + 1])
    if columns is None:
        return f"{place}  {what}{data if len(data) <= DATA_WIDTH else f'{data[: DATA_WIDTH - 1]}…'}"
    if columns >= len(place) + len(what) + LEAST_DATA_WIDTH:
        return cut(f"{place}  {what}{data}", columns)
    return f"{cut(place, columns)}\n{cut(f'{NARROW_INDENT}{what}{data}', columns)}"
