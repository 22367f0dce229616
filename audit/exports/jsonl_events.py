"""Events of an export as JSON Lines."""

from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from audit.exports.errors import ExportDamagedError
from audit.exports.exported_event import ExportedEvent
from audit.exports.part_file import PartFile, bounded_lines
from audit.proofs.event_digest import POSTGRESQL_EPOCH

BLOCK_BYTES = 1024 * 1024

_READ_BYTES = 1024 * 1024
_BEFORE_DATA = b',"data":'
_AFTER_DATA = b"}\n"
_MICROSECOND = timedelta(microseconds=1)


class JsonlEvents:
    """Writes lines as PostgreSQL made them."""

    def __init__(self, file: PartFile) -> None:
        self._file = file

    def write(self, block: bytes) -> None:
        """Write some lines."""
        self._file.write(block)

    def close(self) -> None:
        """Do nothing, because every line is written."""


def read_jsonl(path: Path) -> Generator[ExportedEvent]:
    """Yield the events of a file.

    Raises:
        ExportDamagedError: a line holds no event.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=_READ_BYTES) as file:
        for number, line in enumerate(bounded_lines(file), start=1):
            try:
                event = parse_line(line)
            except (KeyError, ValueError, TypeError, AttributeError):
                raise ExportDamagedError(f"{path.name}, line {number}: this is no event of an export.") from None
            yield event


def parse_line(line: bytes) -> ExportedEvent:
    """Return the event of a line.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: the line holds no event.
    """
    # A quote inside a string is escaped, so the first match is a key of the event itself.
    envelope, found, data = line.partition(_BEFORE_DATA)
    if not found or not data.endswith(_AFTER_DATA):
        raise ValueError("no data")
    # An import parses millions of lines, so nothing here calls a function in Python.
    fields: dict[str, Any] = orjson.loads(envelope + b"}")
    at = datetime.fromisoformat(fields["recorded_at"])
    optional, unhex = fields.get, bytes.fromhex
    request_id, salt, content_hash = fields["request_id"], optional("salt"), optional("content_hash")
    owner, key, fingerprint = optional("idempotency_owner"), optional("idempotency_key"), optional("fingerprint")
    return ExportedEvent(
        fields["position"],
        (at - POSTGRESQL_EPOCH) // _MICROSECOND,
        fields["aggregate"].encode(),
        unhex(fields["aggregate_id"].replace("-", "")),
        fields["version"],
        fields["type"].encode(),
        fields["actor"].encode(),
        None if request_id is None else request_id.encode(),
        data[: -len(_AFTER_DATA)],
        None if salt is None else unhex(salt),
        None if content_hash is None else unhex(content_hash),
        unhex(fields["digest"]),
        None if owner is None else owner.encode(),
        None if key is None else key.encode(),
        None if fingerprint is None else unhex(fingerprint),
    )
