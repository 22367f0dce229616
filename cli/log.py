"""`turnlog log`: the recorded events, on a terminal or as JSON lines."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import orjson

from api.services import prepare
from cli.database import database_options, open_database, settings_for
from eventlog.channels import Channels
from eventlog.database import Database
from eventlog.errors import StoreUnavailableError
from eventlog.feed import Feed
from eventlog.log import Log
from projections.resources import rfc3339

PAGE = 1000
DATA_WIDTH = 160
FOLLOW_POLL_S = 1.0

Work = Callable[[Database], Coroutine[Any, Any, None]]

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with all of the data.")


@click.group()
def log() -> None:
    """Read the event log."""


@log.command()
@click.option("-n", "--lines", default=20, type=click.IntRange(1, PAGE), help="How many events to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is recorded from now on, until Ctrl-C.")
@_as_json
@database_options
def tail(data_dir: Path | None, database_url: str | None, *, lines: int, follow: bool, as_json: bool) -> None:
    """Print the newest events."""

    async def work(database: Database) -> None:
        records = await Log(database).last(lines)
        _print(records, as_json)
        if follow:
            await _follow(database, records[-1]["position"] if records else 0, as_json)

    _run(data_dir, database_url, work)


@log.command()
@click.argument("conversation", type=click.UUID)
@_as_json
@database_options
def show(conversation: UUID, data_dir: Path | None, database_url: str | None, *, as_json: bool) -> None:
    """Print all events of a conversation."""

    async def work(database: Database) -> None:
        version = 0
        while records := await Log(database).audit(conversation, version, PAGE):
            _print(records, as_json)
            version = records[-1]["version"]
        if version == 0:
            raise click.ClickException(f"No conversation {conversation}.")

    _run(data_dir, database_url, work)


async def _follow(database: Database, position: int, as_json: bool) -> None:
    async with _feed(database) as feed:
        with feed.subscribed() as bell:
            while True:
                records = await Log(database).between(position, position + PAGE)
                _print(records, as_json)
                if records:
                    position = records[-1]["position"]
                else:
                    await bell.rung(FOLLOW_POLL_S)


@asynccontextmanager
async def _feed(database: Database) -> AsyncGenerator[Feed]:
    channels = Channels(database)
    feed = Feed(Log(database), channels)
    await channels.open()
    try:
        yield feed
    finally:
        await channels.close()
        await feed.close()


def _run(data_dir: Path | None, database_url: str | None, work: Work) -> None:
    settings = settings_for(data_dir, database_url)
    with open_database(data_dir, database_url) as conninfo:
        prepare(conninfo, settings.log_schema)
        try:
            asyncio.run(_with_database(Database(conninfo, settings.log_schema), work))
        except KeyboardInterrupt:
            return
        except StoreUnavailableError as error:
            raise click.ClickException(str(error)) from None


async def _with_database(database: Database, work: Work) -> None:
    await database.open()
    try:
        await work(database)
    finally:
        await database.close()


def _print(records: list[dict[str, Any]], as_json: bool) -> None:
    for record in records:
        click.echo(_json_line(record) if as_json else _line(record))


def _json_line(record: dict[str, Any]) -> bytes:
    recorded_at = rfc3339(record["recorded_at"])
    return orjson.dumps({**record, "data": orjson.Fragment(record["data"]), "recorded_at": recorded_at})


def _line(record: dict[str, Any]) -> str:
    data = record["data"] if len(record["data"]) <= DATA_WIDTH else record["data"][: DATA_WIDTH - 1] + "…"
    place = f"{record['position']:>8}  {rfc3339(record['recorded_at'])}  {record['conversation_id']}"
    return f"{place}  v{record['version']:<5} {record['type']:<20} {data}"
