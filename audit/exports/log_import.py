"""Imports the export of a whole log into an empty log."""

import re
import struct
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import errors

from audit.errors import LogDamagedError
from audit.exports.errors import ExportDamagedError, ExportError, LogNotEmptyError
from audit.exports.event_rows import Report
from audit.exports.export_formats import events_format
from audit.exports.export_manifest import MANIFEST, MARK, STATE, ExportedFile, ExportManifest, read_manifest
from audit.exports.exported_event import COPY_BEGINNING, COPY_END, ExportedEvent, copy_row, matches_digest
from audit.exports.exported_images import read_images
from audit.proofs.checkpoints import Checkpoint
from audit.proofs.merkle_tree import MerkleTree
from audit.seals.sealed_tree import TreeHead
from audit.seals.sealer import HEAD_EVENTS
from eventlog.db.connection import Connection, translated_errors
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.feeds.channels import notify_through
from eventlog.feeds.feed import TOPIC

COPY_BYTES = 64 * 1024

_SQL = load_statements("audit.exports", "log_import.sql")
_COPY_LINE = re.compile(r"COPY events, line (\d+)")


class ImportedLog(NamedTuple):
    """A log that was imported: its name in checkpoints, and the number of its events.

    `erased` counts those that were erased before.
    """

    log: str
    events: int
    erased: int
    images: int


def is_log_export(path: Path) -> bool:
    """Return whether a path is the directory of a Turnlog export.

    The export may be damaged or unfinished.
    """
    try:
        with (path / MANIFEST).open("rb") as file:
            beginning = file.read(4096)
    except OSError:
        return (path / STATE).is_file()
    return MARK in beginning or any(path.glob("events-*.jsonl")) or any(path.glob("events-*.parquet"))


async def import_log(database: Database, path: Path, report: Report = lambda position, upto: None) -> ImportedLog:
    """Import the export of a whole log, all or nothing.

    Events keep positions, digests and salts, and the log gets the name and the tree of the exported one. Until the end
    appends of other processes wait.

    Raises:
        ExportDamagedError: the export is not as it was written. Its text names the file and the place.
        ExportError: it is not finished, not that of a whole log, or cannot be read.
        LogNotEmptyError: the log has events.
        StoreUnavailableError: the database does not answer.
    """
    manifest = read_manifest(path)
    _check_whole(path, manifest)
    async with await database.connect(durable=True) as connection:
        with translated_errors():
            async with _empty_log(connection):
                imported = await _import_all(connection, path, manifest, report)
            await notify_through(connection, database.schema, TOPIC, str(imported.events))
            await connection.execute(_SQL["analyze_events"])
            await connection.execute(_SQL["summarize_times"])
    return imported


def _check_whole(path: Path, manifest: ExportManifest) -> None:
    """Check that a manifest is that of a whole log, and that its parts fit together."""
    if not manifest.filters.is_of_whole_log:
        given = ", ".join(manifest.filters.model_dump(exclude_none=True))
        raise ExportError(f"{path} is a part of a log, chosen by {given}. Only a whole log can be imported.")
    position = 0
    for file in manifest.events:
        if (file.first_position, file.last_position) != (position + 1, position + file.count) or not file.count:
            raise _wrong_manifest(f"{file.name} does not begin at position {position + 1}, or has another count")
        if not file.name.endswith(f".{manifest.format}"):
            raise _wrong_manifest(f"{file.name} is not in the format {manifest.format}")
        position = file.last_position
    if not position == manifest.count == manifest.tree_head.size:
        raise _wrong_manifest("the counts of its files, of its events and of its tree head differ")
    root = bytes.fromhex(manifest.tree_head.root)
    if manifest.checkpoint is not None and not manifest.checkpoint.startswith(
        f"{Checkpoint(manifest.log, position, root).text()}\n"
    ):
        raise _wrong_manifest("its checkpoint is not that of its tree head")


def _wrong_manifest(reason: str) -> ExportDamagedError:
    return ExportDamagedError(f"{MANIFEST}: {reason}.")


@asynccontextmanager
async def _empty_log(connection: Connection) -> AsyncGenerator[None]:
    """Begin a transaction in which no other process writes to the log.

    Raises:
        LogNotEmptyError: the log has events, or another process is writing.
        LogDamagedError: the head of the log is missing.
    """
    async with connection.transaction():
        try:
            cursor = await connection.execute(_SQL["claim_log"], binary=True)
        except errors.LockNotAvailable:
            raise LogNotEmptyError("Another process is writing to the log.") from None
        row = await cursor.fetchone()
        if row is None:
            raise LogDamagedError("The head of the log is missing.")
        if row[0]:
            raise LogNotEmptyError(
                f"The log is not empty. It ends at position {row[0]}, and an export needs an empty log."
            )
        yield


async def _import_all(connection: Connection, path: Path, manifest: ExportManifest, report: Report) -> ImportedLog:
    chosen, chain = events_format(manifest.format), _Chain()
    for file in manifest.events:
        with _reading(file), closing(chosen.read(path / file.name)) as events:
            if chosen.is_checked_first:
                _check_bytes(path, file)
            await _copy_events(connection, file, chain.checked(file, chosen.unit, events), manifest.count, report)
            _check_count(file, chain.position - file.first_position + 1)
            if not chosen.is_checked_first:
                _check_bytes(path, file)
    if chain.root() != bytes.fromhex(manifest.tree_head.root):
        raise _wrong_manifest("the events have another tree head")
    images = 0
    for file in manifest.images:
        with _reading(file):
            found, added = await _add_images(connection, path / file.name)
            _check_count(file, found)
            _check_bytes(path, file)
        images += added
    await _seal(connection, manifest, chain)
    return ImportedLog(manifest.log, chain.position, chain.erased, images)


class _Chain:
    """The events of an export in their order, and the tree over them."""

    def __init__(self) -> None:
        self.position = 0
        self.erased = 0
        self.tree = MerkleTree()
        self.heads: list[TreeHead] = []
        self._digests: list[bytes] = []

    def checked(self, file: ExportedFile, unit: str, events: Iterator[ExportedEvent]) -> Generator[ExportedEvent]:
        """Yield the events of a file.

        Raises:
            ExportDamagedError: one is not the next one, or does not match its digest.
        """
        for number, event in enumerate(events, start=1):
            if event.position != self.position + 1:
                place = f"{file.name}, {unit} {number}"
                raise ExportDamagedError(f"{place}: position {event.position} is not {self.position + 1}.")
            if not _is_whole(event):
                place = f"{file.name}, {unit} {number}"
                raise ExportDamagedError(f"{place}: the event at position {event.position} does not match its digest.")
            self.position += 1
            self.erased += event.content_hash is not None
            self._digests.append(event.digest)
            if self.position % HEAD_EVENTS == 0:
                self._seal()
            yield event

    def root(self) -> bytes:
        """Return the root over all events, once they were read."""
        if self._digests:
            self._seal()
        return self.tree.root()

    def _seal(self) -> None:
        self.tree.extend(self._digests)
        self._digests.clear()
        self.heads.append(TreeHead(self.tree.size, self.tree.root()))


def _is_whole(event: ExportedEvent) -> bool:
    try:
        return matches_digest(event)
    except (struct.error, TypeError):  # a value of another type, or out of range
        return False


async def _copy_events(
    connection: Connection, file: ExportedFile, events: Iterator[ExportedEvent], upto: int, report: Report
) -> None:
    """Copy the events of a file into the log."""
    async with connection.cursor() as cursor:
        with _refusals(file):
            async with cursor.copy(_SQL["copy_events"]) as copy:
                rows, size, position = [COPY_BEGINNING], 0, 0
                for event in events:
                    row = copy_row(event)
                    rows.append(row)
                    size += len(row)
                    position = event.position
                    if size >= COPY_BYTES:
                        await copy.write(b"".join(rows))
                        rows, size = [], 0
                        report(position, upto)
                await copy.write(b"".join([*rows, COPY_END]))
    report(position, upto)


async def _add_images(connection: Connection, path: Path) -> tuple[int, int]:
    """Store the images of a file, and return their number and that of new ones."""
    found = added = 0
    for image in read_images(path):
        cursor = await connection.execute(_SQL["add_image"], image._asdict())
        found, added = found + 1, added + cursor.rowcount
    return found, added


async def _seal(connection: Connection, manifest: ExportManifest, chain: _Chain) -> None:
    """Set the head of the log, its name, its tree and its sealed heads."""
    tree = chain.tree
    head = await connection.execute(_SQL["set_head"], {"position": tree.size})
    name = UUID(manifest.log.partition("/")[2])
    sealed = await connection.execute(_SQL["set_tree"], {"log_id": name, "size": tree.size, "subtrees": tree.state})
    if (head.rowcount, sealed.rowcount) != (1, 1):
        raise LogDamagedError("The head or the sealed tree of the empty log is missing.")
    sizes, roots = [head.size for head in chain.heads], [head.root for head in chain.heads]
    await connection.execute(_SQL["add_heads"], {"sizes": sizes, "roots": roots})


def _check_count(file: ExportedFile, count: int) -> None:
    if count != file.count:
        raise ExportDamagedError(f"{file.name}: has {count} entries, and {MANIFEST} says {file.count}.")


def _check_bytes(path: Path, file: ExportedFile) -> None:
    """Check the size of a file and its hash."""
    with (path / file.name).open("rb") as opened:
        digest = file_digest(opened, "sha256").hexdigest()
        size = opened.tell()
    if (size, digest) != (file.bytes, file.sha256):
        raise ExportDamagedError(f"{file.name}: its size or its SHA-256 is not that of {MANIFEST}.")


@contextmanager
def _reading(file: ExportedFile) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ExportDamagedError(f"{file.name}: is missing.") from None
    except OSError as error:
        raise ExportError(f"{file.name} cannot be read: {error.strerror or error}.") from None


@contextmanager
def _refusals(file: ExportedFile) -> Generator[None]:
    """Raise ExportDamagedError for a value that PostgreSQL refuses."""
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded) as error:
        found = _COPY_LINE.search(error.diag.context or "")
        place = f"position {file.first_position + int(found[1]) - 1}" if found else "an event"
        reason = (error.diag.message_primary or "").splitlines()[:1]
        raise ExportDamagedError(f"{file.name}: PostgreSQL refuses {place}: {''.join(reason)}.") from None
