"""An event of an export: its digest, and its row in the binary form of COPY."""

from hashlib import sha256
from struct import Struct
from typing import NamedTuple

ERASED = b"{}"
"""The data of an erased event."""
COPY_BEGINNING = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""Signature, flags and the length of the extension of PostgreSQL's binary COPY format."""
COPY_END = b"\xff\xff"

_COLUMNS = 15
_NULL = b"\xff\xff\xff\xff"
_JSONB_VERSION = b"\x01"
_length = Struct(">i").pack
_lengths = Struct(">iiii").pack
_digested = Struct(">q16siq").pack
_fixed_columns = Struct(">hiqiqi16sii").pack


class ExportedEvent(NamedTuple):
    """An event with all columns of the log, in the order of the files.

    Texts are in UTF-8. `recorded_us` counts microseconds since 2000. `data` is the exact text of the column.
    """

    position: int
    recorded_us: int
    aggregate: bytes
    aggregate_id: bytes
    version: int
    type: bytes
    actor: bytes
    request_id: bytes | None
    data: bytes
    salt: bytes | None
    content_hash: bytes | None
    digest: bytes
    idempotency_owner: bytes | None = None
    idempotency_key: bytes | None = None
    fingerprint: bytes | None = None


def matches_digest(event: ExportedEvent) -> bool:
    """Return whether an event is as it was recorded, or was erased since."""
    # `DigestedEvent.digest` on values that are bytes already: an import computes millions.
    if event.content_hash is None:
        if event.salt is None:
            return False
        content_hash = sha256(event.salt + event.data).digest()
    elif event.salt is None and event.data == ERASED:
        content_hash = event.content_hash
    else:
        return False
    request_id = event.request_id
    covered = (
        _digested(event.position, event.aggregate_id, event.version, event.recorded_us)
        + content_hash
        + _lengths(
            len(event.aggregate), len(event.type), len(event.actor), -1 if request_id is None else len(request_id)
        )
        + event.aggregate
        + event.type
        + event.actor
        + (request_id or b"")
    )
    return sha256(covered).digest() == event.digest


def copy_row(event: ExportedEvent) -> bytes:
    """Return the row of an event, with the columns in the order of `copy_events`."""
    columns = [
        _fixed_columns(_COLUMNS, 8, event.position, 8, event.recorded_us, 16, event.aggregate_id, 4, event.version),
        _length(len(event.data) + 1) + _JSONB_VERSION,
        event.data,
    ]
    for value in (
        event.aggregate,
        event.type,
        event.actor,
        event.request_id,
        event.salt,
        event.content_hash,
        event.digest,
        event.idempotency_owner,
        event.idempotency_key,
        event.fingerprint,
    ):
        if value is None:
            columns.append(_NULL)
        else:
            columns += (_length(len(value)), value)
    return b"".join(columns)
