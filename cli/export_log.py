"""`turnlog log export`: the log as files, for analysis or for another log."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import cast
from uuid import UUID

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.exports.export_formats import events_format
from audit.exports.export_manifest import MANIFEST, ExportFilter, ExportFormat, ExportManifest, ExportPlan
from audit.exports.log_export import export_log, plan_export
from audit.proofs.key_file import read_key
from cli.database_options import ExistingLog, WrongUseError, database_options, existing_log, settings_for
from cli.progress_bars import show_progress
from cli.prove_log import KEY_FILE, damage_exits_with_3
from cli.reading.event_filters import known_type, valid_text
from cli.reading.moments import EXAMPLE, check_recorded, moment_of
from cli.terminal import visible
from eventlog.log import AsOf
from eventlog.opening import open_log
from projections.rebuild.builder import BuildStep


@click.command()
@click.option(
    "--out",
    metavar="PATH",
    required=True,
    type=click.Path(path_type=Path),
    help="The directory of the files. The same command goes on with an export that was interrupted.",
)
@click.option(
    "--format", "format_name", type=click.Choice(["jsonl", "parquet"]), default="jsonl", help="Of the events."
)
@click.option("--from", "first", metavar="WHEN", help=f"Only events at or after a moment: {EXAMPLE}.")
@click.option("--to", "last", metavar="WHEN", help="Only events up to a moment, included.")
@click.option("--owner", metavar="ID", help="Only events of this owner's conversations and agents.")
@click.option("--conversation", metavar="ID", type=click.UUID, help="Only events of this conversation.")
@click.option("--type", "event_type", metavar="TYPE", help="Only events of this type, such as TurnFailed.")
@database_options
def export(
    data_dir: Path | None,
    database_url: str | None,
    *,
    out: Path,
    format_name: str,
    first: str | None,
    last: str | None,
    owner: str | None,
    conversation: UUID | None,
    event_type: str | None,
) -> None:
    """Write the log, or a part of it, to files with a manifest.

    The export ends at the event that is the last one when it begins, whatever is recorded meanwhile. Images that the
    events refer to are files of their own.
    """
    filters = ExportFilter(
        first=_moment("--from", first),
        last=_moment("--to", last),
        owner_id=valid_text("--owner", owner),
        conversation_id=None if conversation is None else str(conversation),
        type=known_type(event_type),
    )
    _check_order(filters)
    chosen = cast(ExportFormat, format_name)
    with existing_log(data_dir, database_url) as existing, damage_exits_with_3():
        events_format(chosen)  # before anything is read
        was_finished = (out / MANIFEST).is_file()
        plan = asyncio.run(_plan(existing, chosen, filters, _key(data_dir, database_url)))
        with show_progress() as progress:
            manifest = export_log(
                existing.conninfo,
                existing.schema,
                out,
                plan,
                lambda position, upto: progress.report(BuildStep("log", "exporting", position, upto)),
            )
    click.echo(_summary(out, manifest))
    if was_finished:
        click.echo("This export was finished before and stays as it is. A new directory gets a new export.", err=True)


async def _plan(
    existing: ExistingLog, format_name: ExportFormat, filters: ExportFilter, key: Ed25519PrivateKey | None
) -> ExportPlan:
    async with open_log(existing.conninfo, existing.schema, listening=False) as opened:
        await check_recorded(opened.log, filters.first, filters.last)
        return await plan_export(opened.database, format_name, filters, key)


def _moment(option: str, text: str | None) -> AsOf | None:
    return None if text is None else moment_of(option, text)


def _check_order(filters: ExportFilter) -> None:
    match filters.first, filters.last:
        case (int() as first, int() as last) if first > last:
            raise WrongUseError("--from is after --to.")
        case (datetime() as first, datetime() as last) if first > last:
            raise WrongUseError("--from is after --to.")
        case _:
            pass


def _key(data_dir: Path | None, database_url: str | None) -> Ed25519PrivateKey | None:
    """Return the key that signs checkpoints, or None if none was made yet."""
    path = settings_for(data_dir, database_url).data_dir / KEY_FILE
    return read_key(path) if path.exists() else None


def _summary(out: Path, manifest: ExportManifest) -> str:
    files = len(manifest.events) + len(manifest.images)
    size = f"{files:,} files of {manifest.bytes:,} bytes"
    lines = [f"{manifest.count:,} events and their images are in {size} in {visible(str(out))}."]
    if manifest.missing_images:
        lines.append(f"The log lacks {manifest.missing_images:,} images that these events refer to.")
    return "\n".join(lines)
