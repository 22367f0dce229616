"""The formats of exported events."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple, Protocol

from audit.exports.errors import ExportError
from audit.exports.export_manifest import ExportFormat
from audit.exports.exported_event import ExportedEvent
from audit.exports.jsonl_events import BLOCK_BYTES, JsonlEvents, read_jsonl
from audit.exports.part_file import PartFile


class EventsWriter(Protocol):
    """Writes the events of a file."""

    def write(self, block: bytes) -> None:
        """Write some rows, as PostgreSQL made them."""
        ...

    def close(self) -> None:
        """Write the end of the file."""
        ...


class EventsFormat(NamedTuple):
    """How events are written and read.

    `unit` is the word for the place of an event in a file. The files of some formats are compared with the manifest
    before they are parsed.
    """

    unit: str
    is_checked_first: bool
    block_bytes: int
    writer: Callable[[PartFile], EventsWriter]
    read: Callable[[Path], Generator[ExportedEvent]]


def events_format(name: ExportFormat) -> EventsFormat:
    """Return the format with a name.

    Raises:
        ExportError: its library is not installed.
    """
    if name == "jsonl":
        # The lines are read first, so that an error names a line and not only the file.
        return EventsFormat("line", False, BLOCK_BYTES, JsonlEvents, read_jsonl)
    try:
        from audit.exports import parquet_events
    except ImportError:
        raise ExportError(
            "Parquet needs the package pyarrow. Install it with: pip install 'turnlog[parquet]'"
        ) from None
    # Damaged bytes never get to the parser, which is written in C++.
    return EventsFormat(
        "row", True, parquet_events.BLOCK_BYTES, parquet_events.ParquetEvents, parquet_events.read_parquet
    )
