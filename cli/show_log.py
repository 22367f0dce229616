"""`turnlog log`: print recorded events, for a terminal or as JSON lines."""

from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from cli.database_options import FailedError, WrongUseError, database_options
from cli.export_log import export
from cli.prove_log import checkpoint, prove, verify
from cli.reading.event_filters import ChosenEvents, filter_options
from cli.reading.event_lines import event_line, json_line
from cli.reading.following import Follower
from cli.reading.moments import check_recorded
from cli.reading.opened_log import read_log
from cli.terminal import has_colours, width
from eventlog.log_search import EventFilter, LogSearch
from eventlog.opening import OpenLog

PAGE = 1000

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, with all data.")


@click.group()
def log() -> None:
    """Read, verify and export the event log."""


for _command in (verify, checkpoint, prove, export):
    log.add_command(_command)


@log.command()
@click.option("-n", "--lines", default=20, type=click.IntRange(1, PAGE), help="Number of events to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Also print new events, until Ctrl-C.")
@filter_options
@_as_json
@database_options
def tail(
    data_dir: Path | None, database_url: str | None, *, lines: int, follow: bool, chosen: ChosenEvents, as_json: bool
) -> None:
    """Print the newest events."""
    wanted, newest_first = chosen
    if follow and (wanted.before is not None or newest_first):
        raise WrongUseError("--follow cannot be combined with --before or --order desc.")

    async def work(opened: OpenLog) -> None:
        await check_recorded(opened.log, wanted.after, wanted.before)
        search, head = LogSearch(opened.database), await opened.log.head()
        newest = await _newest(search, wanted, lines)
        _print(newest if newest_first else reversed(newest), as_json)
        if follow:
            position = max(head, newest[0]["position"] if newest else 0)
            follower = Follower(opened.feed, search, position, polls=not opened.channels.is_open)
            async with aclosing(follower.pages(wanted)) as pages:
                async for records in pages:
                    _print(records, as_json)

    read_log(data_dir, database_url, work, watched=follow, listening=follow)


@log.command()
@click.argument("conversation", type=click.UUID)
@filter_options
@_as_json
@database_options
def show(
    conversation: UUID, data_dir: Path | None, database_url: str | None, *, chosen: ChosenEvents, as_json: bool
) -> None:
    """Print all events of a conversation."""
    wanted, newest_first = chosen

    async def work(opened: OpenLog) -> None:
        await check_recorded(opened.log, wanted.after, wanted.before)
        search = LogSearch(opened.database)
        first = await search.in_conversation(conversation, EventFilter(), None, 1)
        if not first.records:
            raise FailedError(f"No conversation {conversation}.")
        end: int | None = None
        while True:
            found = await search.in_conversation(conversation, wanted, end, PAGE, newest_first=newest_first)
            _print(found.records, as_json)
            if (end := found.end) is None:
                return

    read_log(data_dir, database_url, work)


async def _newest(search: LogSearch, wanted: EventFilter, count: int) -> list[dict[str, Any]]:
    """Return the newest `count` wanted events, newest first."""
    records: list[dict[str, Any]] = []
    end: int | None = None
    while len(records) < count:
        found = await search.in_log(wanted, end, count - len(records), newest_first=True)
        records += found.records
        if (end := found.end) is None:
            break
    return records


def _print(records: Iterable[dict[str, Any]], as_json: bool) -> None:
    columns, colours = width(), has_colours()
    for record in records:
        click.echo(json_line(record) if as_json else event_line(record, columns, colours=colours))
