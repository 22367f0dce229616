"""Exports and imports of logs in tests, in parts of a few events."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from audit.exports.export_manifest import ExportFilter, ExportFormat, ExportManifest
from audit.exports.log_export import ExportSizes, export_log, plan_export
from audit.exports.log_import import ImportedLog, import_log
from commands.commands import ClientMessage
from domain.content import ImageBlock, TextBlock
from eventlog.db.database import Database
from eventlog.mapper import new_row
from eventlog.writer import Idempotency
from tests.support.audits import ERASE, tamper
from tests.support.histories.agents import one_of_each_agent
from tests.support.histories.builders import audit_read, one_of_each
from tests.support.store import ALICE, Store, rows

FORMATS: Sequence[ExportFormat] = ("jsonl", "parquet")
SMALL = ExportSizes(part_bytes=6_000, block_bytes=1_500, section_positions=7)
GIF = "R0lGODlh"
IMAGE = ImageBlock(media_type="image/gif", data=GIF)
EVENTS = (
    "SELECT position, recorded_at, aggregate::text, aggregate_id::text, version, type, actor, request_id, data::text,"
)
COLUMNS = f"{EVENTS} salt, content_hash, digest, idempotency_owner, idempotency_key, fingerprint FROM events"


async def exported(
    conninfo: str,
    path: Path,
    format_name: ExportFormat = "jsonl",
    sizes: ExportSizes = SMALL,
    schema: str = "turnlog",
    **filters: Any,
) -> ExportManifest:
    """Export a log, or what the filters select of it."""
    database = Database(conninfo, schema)
    await database.open()
    try:
        plan = await plan_export(database, format_name, ExportFilter(**filters))
    finally:
        await database.close()
    return export_log(conninfo, schema, path, plan, sizes=sizes)


async def imported(conninfo: str, path: Path, schema: str = "turnlog") -> ImportedLog:
    return await import_log(Database(conninfo, schema), path)


def files(path: Path) -> dict[str, bytes]:
    """Return the content of all files of a directory."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def lines(path: Path) -> list[bytes]:
    """Return all lines of events of an export, in their order."""
    return [line for file in sorted(path.glob("events-*.jsonl")) for line in file.read_bytes().splitlines()]


def all_rows(conninfo: str, schema: str = "turnlog") -> dict[str, list[Any]]:
    """Return everything that an export holds, from the database."""
    return {
        "events": rows(conninfo, f"{COLUMNS} ORDER BY position", schema=schema),  # pyright: ignore[reportArgumentType]
        "images": rows(conninfo, "SELECT * FROM images ORDER BY sha256", schema=schema),
        "log": rows(conninfo, "SELECT log_id FROM sealed_tree", schema=schema),
        "head": rows(conninfo, "SELECT position FROM head", schema=schema),
    }


def is_empty(conninfo: str) -> bool:
    """Return whether a log has nothing that an import adds."""
    counted = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM images), (SELECT count(*) FROM tree_heads)"
    return rows(conninfo, counted) == [(0, 0, 0)] and rows(
        conninfo, "SELECT h.position, t.size FROM head AS h, sealed_tree AS t"
    ) == [(0, 0)]


async def record_everything(store: Store) -> None:
    """Record every type of event, an image twice, a key, and an erased event."""
    conversation = one_of_each()
    key = Idempotency("alice", "key\t\x01\x02\n\\", sha256(b"request").digest())
    await store.writer.append(list(map(new_row, conversation)), key, conversation)
    await store.append(one_of_each_agent())
    await store.append([audit_read()])
    for _ in range(2):
        await store.commands.start(ALICE, messages=[ClientMessage("user", (TextBlock(text="\\ \t\n\x7f"), IMAGE))])
    tamper(store.database.conninfo, f"{ERASE} WHERE position = 2")
