"""`turnlog import`: record what other programs, or another log, exported."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from api.auth.errors import InvalidOwnerError
from api.auth.identity import LOCAL, check_owner_id
from audit.conversation_importer import ConversationImporter, ImportCounts
from audit.exports.log_import import ImportedLog, import_log, is_log_export
from audit.imports.errors import ImportFormatError
from audit.imports.export_images import export_images
from audit.imports.import_batches import ImportBatches
from audit.imports.import_formats import FORMATS
from audit.imports.imported_conversation import SourceFormat
from cli.database_options import (
    ExistingLog,
    FailedError,
    WrongUseError,
    database_options,
    existing_log,
    one_line_errors,
)
from cli.progress_bars import show_progress
from cli.prove_log import damage_exits_with_3
from cli.terminal import visible
from commands.agent_definitions import AgentDefinitions
from commands.commands import Caller, Commands
from commands.conversation_starts import ConversationStarts
from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from eventlog.db.database import Database
from eventlog.opening import OpenLog, open_log
from projections.rebuild.builder import BuildStep

SHOWN_KINDS = 10
"""The most kinds of content that are named as left out."""


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--owner",
    metavar="ID",
    help=f"Owner of the conversations [default: {LOCAL.owner_id}, that without authentication].",
)
@click.option(
    "--format",
    "source_format",
    type=click.Choice([*FORMATS, "turnlog"]),
    help="The format [default: the one that the content tells].",
)
@click.option("--dry-run", is_flag=True, help="Read everything and record nothing.")
@database_options
def import_export(
    path: Path,
    data_dir: Path | None,
    database_url: str | None,
    *,
    owner: str | None,
    source_format: SourceFormat | Literal["turnlog"] | None,
    dry_run: bool,
) -> None:
    """Record the conversations that another program exported.

    PATH is a file, a zip archive or a folder: the data export of ChatGPT or Claude, an export of Open WebUI, or JSON
    Lines of OpenAI-style messages. A conversation that was imported before is not recorded again, so an import that
    was stopped is just repeated.

    An export of a Turnlog log goes as a whole into an empty log.
    """
    _check_readable(path)
    if source_format == "turnlog" or (source_format is None and is_log_export(path)):
        if owner is not None or dry_run:
            raise WrongUseError("A log is imported as it is, without --owner and --dry-run.")
        with existing_log(data_dir, database_url, writes=True) as existing, damage_exits_with_3():
            imported = asyncio.run(_import_log(existing, path))
        click.echo(visible(_log_outcome(imported)))
        return
    try:
        owner_id = check_owner_id(LOCAL.owner_id if owner is None else owner)
    except InvalidOwnerError as error:
        raise WrongUseError(f"--owner: {error}") from None
    with existing_log(data_dir, database_url, writes=not dry_run) as existing:
        counts = record_export(existing, path, source_format, owner_id, dry_run=dry_run)
    click.echo(visible(outcome(counts, dry_run=dry_run)))


def outcome(counts: ImportCounts, *, dry_run: bool) -> str:
    """Return the line that says what an import has done, or would do."""
    recorded = f"{'Would record' if dry_run else 'Recorded'} {_conversations(counts.conversations)}"
    parts = [f"{recorded} with {_counted(counts.messages, 'message')}."]
    if counts.known:
        parts.append(f"{counts.known:,} {'was' if counts.known == 1 else 'were'} there already.")
    if counts.left_out:
        kinds = [f"{kind} ({number:,})" for kind, number in counts.left_out.most_common(SHOWN_KINDS)]
        others = len(counts.left_out) - len(kinds)
        parts.append(f"Left out: {', '.join(kinds)}{f', and {others:,} other kinds' if others else ''}.")
    return " ".join(parts)


def _check_readable(path: Path) -> None:
    try:
        path.stat()
    except OSError as error:
        raise FailedError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}."


async def _import_log(existing: ExistingLog, path: Path) -> ImportedLog:
    with show_progress() as progress:
        return await import_log(
            Database(existing.conninfo, existing.schema),
            path,
            lambda position, upto: progress.report(BuildStep("log", "importing", position, upto)),
        )


def _log_outcome(imported: ImportedLog) -> str:
    events = f"{_counted(imported.events, 'event')} ({imported.erased:,} erased)"
    return f"Imported the log {imported.log} with {events} and {_counted(imported.images, 'image')}."


def record_export(
    existing: ExistingLog, path: Path, source_format: SourceFormat | None, owner_id: str, *, dry_run: bool
) -> ImportCounts:
    """Record the conversations of an export, and return what was done.

    Raises:
        FailedError: the export or the database has a fault. The text says what was recorded before.
    """
    counts = ImportCounts()
    caller = Caller(owner_id, f"user:{owner_id}")

    async def run() -> None:
        with export_images(path) as find_image:
            async with open_log(existing.conninfo, existing.schema, listening=not dry_run) as opened:
                executor = CommandExecutor(opened.log, opened.writer)
                importer = ConversationImporter(
                    _commands(opened, executor), caller, find_image, counts, dry_run=dry_run
                )
                try:
                    await _record_all(importer, ImportBatches(path, source_format))
                finally:
                    await executor.close()

    with _saying_what_was_recorded(path, lambda: 0 if dry_run else counts.conversations):
        asyncio.run(run())
    return counts


def _commands(opened: OpenLog, executor: CommandExecutor) -> Commands:
    starts = ConversationStarts(executor, AgentDefinitions(opened.log))
    return Commands(executor, Tokenizer(), opened.images, starts)


async def _record_all(importer: ConversationImporter, batches: ImportBatches) -> None:
    with show_progress() as progress:

        def report() -> None:
            # The number of messages is known at the end only. Until then it is estimated from the bytes.
            messages = importer.counts.read_messages
            expected = round(messages * batches.total_bytes / max(importer.counts.read_bytes, 1))
            progress.report(BuildStep("import", "recording", messages, max(messages, expected)))

        await importer.record_all(batches, report)


@contextmanager
def _saying_what_was_recorded(path: Path, recorded: Callable[[], int]) -> Generator[None]:
    """Say in an error how many conversations were recorded before it."""
    try:
        with one_line_errors():
            yield
        return
    except ImportFormatError as error:
        fault = f"{str(error).removesuffix('.')}."
    except OSError as error:
        fault = _unreadable(path, error)
    except FailedError as error:
        fault = error.message
    except KeyboardInterrupt:
        fault = "Interrupted."
    number = recorded()
    before = f"{_conversations(number)} {'was' if number == 1 else 'were'} recorded before."
    raise FailedError(f"{fault} {before if number else 'Nothing was recorded.'}")


def _conversations(number: int) -> str:
    return _counted(number, "conversation")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
