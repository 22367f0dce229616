"""Exports the log as files, part by part."""

from collections.abc import Generator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import LogDamagedError
from audit.exports.event_rows import SECTION_POSITIONS, Block, EventRows, Report, SyncConnection
from audit.exports.export_directory import ExportDirectory, open_export
from audit.exports.export_formats import EventsFormat, events_format
from audit.exports.export_manifest import (
    ExportedFile,
    ExportedTreeHead,
    ExportFilter,
    ExportFormat,
    ExportManifest,
    ExportPlan,
)
from audit.exports.exported_images import write_images
from audit.exports.part_file import PartFile
from audit.proofs.checkpoints import Checkpoint
from audit.proofs.signed_notes import Signer, sign_note
from audit.seals.sealed_tree import read_current_tree
from eventlog.db.connection import translated_errors
from eventlog.db.database import Database
from eventlog.db.sessions import connect
from eventlog.log import AsOf, Log

PART_BYTES = 256 * 1024 * 1024

_IMAGE_MARK = b'"sha256": "'
"""A text that stands in the data of each event with an image, and in few others."""
_MICROSECOND = timedelta(microseconds=1)


class ExportSizes(NamedTuple):
    """How a log is cut.

    A part ends with the block that makes it at least as large as `part_bytes`, before compression. None for the size of
    a block is that of the format.
    """

    part_bytes: int = PART_BYTES
    block_bytes: int | None = None
    section_positions: int = SECTION_POSITIONS


DEFAULT_SIZES = ExportSizes()


async def plan_export(
    database: Database, format_name: ExportFormat, filters: ExportFilter, private: Ed25519PrivateKey | None = None
) -> ExportPlan:
    """Return the export of the wanted events up to the head that the log has now.

    With a key the plan has a checkpoint. The database is open.

    Raises:
        LogDamagedError: the log is not whole, or is not as it was sealed.
        StoreUnavailableError: the database does not answer.
    """
    async with await database.connect() as connection:
        with translated_errors():
            origin, tree = await read_current_tree(connection)
    log = Log(database)
    checkpoint = None
    if private is not None:
        checkpoint = sign_note(Checkpoint(origin, tree.size, tree.root()).text(), Signer(origin, private))
    return ExportPlan(
        log=origin,
        format=format_name,
        filters=filters,
        after=min(await _before(log, filters.first), tree.size),
        upto=tree.size if filters.last is None else min(await log.position_of(filters.last), tree.size),
        tree_head=ExportedTreeHead(size=tree.size, root=tree.root().hex()),
        checkpoint=checkpoint,
    )


async def _before(log: Log, first: AsOf | None) -> int:
    """Return the position before that of the first event at or after a moment."""
    if isinstance(first, datetime):
        return await log.first_after(first - _MICROSECOND) - 1
    return max((first or 1) - 1, 0)


def export_log(
    conninfo: str,
    schema: str,
    path: Path,
    plan: ExportPlan,
    report: Report = lambda position, upto: None,
    sizes: ExportSizes = DEFAULT_SIZES,
) -> ExportManifest:
    """Write an export to a directory and return its manifest.

    An export that was begun there with the same arguments is gone on with, up to the head that it began with. A
    finished one stays as it is.

    Raises:
        ExportError: the directory cannot be written, or holds something else.
        LogDamagedError: events are missing.
        psycopg.Error: the database does not answer.
    """
    chosen = events_format(plan.format)
    with open_export(path, plan) as directory:
        if directory.manifest is not None:
            directory.remove_rest()
            return directory.manifest
        # The first connection is in the middle of a COPY when the images of a part are read.
        with connect(conninfo, schema) as copying, connect(conninfo, schema) as reading:
            _Export(directory, copying, reading, chosen, sizes).write_parts(report)
        return directory.finish()


class _Export:
    """An export with its directory and its connections."""

    def __init__(
        self,
        directory: ExportDirectory,
        copying: SyncConnection,
        reading: SyncConnection,
        chosen: EventsFormat,
        sizes: ExportSizes,
    ) -> None:
        plan = directory.state.plan
        self._directory = directory
        self._reading = reading
        self._chosen = chosen
        self._plan = plan
        self._part_bytes = sizes.part_bytes
        self._rows = EventRows(
            copying,
            plan.format,
            plan.filters,
            sizes.block_bytes or chosen.block_bytes,
            sizes.section_positions,
        )

    def write_parts(self, report: Report) -> None:
        """Write the parts that are missing."""
        done = self._directory.state.events
        after = done[-1].last_position if done else self._plan.after
        with closing(self._rows.blocks(after, self._plan.upto, report)) as blocks:
            for first in blocks:
                after = self._write_part(after, first, blocks)
        self._check_whole(after, self._plan.upto, 0)

    def _write_part(self, after: int, first: Block, rest: Generator[Block]) -> int:
        """Write the part that begins with a block, and return its last position."""
        name = f"events-{first.first:012}.{self._plan.format}"
        with self._directory.new_file(name) as file:
            count, last, with_images = self._write_events(file, chain([first], rest))
            self._check_whole(after, last, count)
        events = _entry(name, file, count, first.first, last)
        images, missing = self._write_images(events) if with_images else (None, 0)
        self._directory.add(events, images, missing)
        return last

    def _write_events(self, file: PartFile, blocks: chain[Block]) -> tuple[int, int, bool]:
        """Write the events of a part.

        Return their number, the last position, and whether images may be among them.
        """
        writer = self._chosen.writer(file)
        count = last = size = 0
        with_images = False
        try:
            for block in blocks:
                writer.write(block.data)
                file.check()
                count, last, size = count + block.events, block.last, size + len(block.data)
                with_images = with_images or _IMAGE_MARK in block.data
                if size >= self._part_bytes:
                    break
        except BaseException:
            file.drop()  # the writer still wants to write the end of its file
            raise
        finally:
            writer.close()
        return count, last, with_images

    def _write_images(self, events: ExportedFile) -> tuple[ExportedFile | None, int]:
        """Write the images that the events of a part refer to.

        Return the file, if there is one, and the number of missing images.
        """
        digests = self._rows.images(self._reading, events.first_position - 1, events.last_position)
        if not digests:
            return None, 0
        name = f"images-{events.first_position:012}.jsonl"
        with self._directory.new_file(name) as file:
            count = write_images(self._reading, file, digests)
        return _entry(name, file, count, events.first_position, events.last_position), len(digests) - count

    def _check_whole(self, after: int, upto: int, count: int) -> None:
        if self._plan.filters.is_of_all_events and count != max(upto - after, 0):
            raise LogDamagedError(f"The events after position {after} up to {upto} are not whole.")


def _entry(name: str, file: PartFile, count: int, first: int, last: int) -> ExportedFile:
    return ExportedFile(
        name=name, count=count, bytes=file.bytes, sha256=file.sha256, first_position=first, last_position=last
    )
