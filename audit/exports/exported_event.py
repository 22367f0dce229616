"""An event of an export: its digest, and its row in the binary form of COPY."""

from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

ERASED = b"{}"
"""The data of an erased event."""
COPY_BEGINNING = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""Signature, flags and the length of the extension of PostgreSQL's binary COPY format."""
COPY_END = b"\xff\xff"

UUID_BYTES = 16

_COLUMNS = 15
_NULL = b"\xff\xff\xff\xff"
_JSONB_VERSION = b"\x01"
_length = Struct(">i").pack
_lengths = Struct(">iiii").pack
_digested = Struct(">q16siq").pack
_fixed_columns = Struct(">hiqiqi16siii").pack


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
    position, recorded_us, aggregate, aggregate_id, version, kind, actor, request_id = event[:8]
    data, salt, content_hash, digest = event[8:12]
    if content_hash is None and salt is not None:
        content_hash = sha256(salt + data).digest()
    elif salt is not None or data != ERASED or content_hash is None:
        return False
    if len(aggregate_id) != UUID_BYTES:
        return False  # it would be cut or filled up to the right length
    covered = (
        _digested(position, aggregate_id, version, recorded_us),
        content_hash,
        _lengths(len(aggregate), len(kind), len(actor), -1 if request_id is None else len(request_id)),
        aggregate,
        kind,
        actor,
        request_id or b"",
    )
    return sha256(b"".join(covered)).digest() == digest


def copy_row(event: ExportedEvent) -> bytes:
    """Return the row of an event, with the columns in the order of `copy_events`."""
    position, recorded_us, aggregate, id_, version, kind, actor, request_id = event[:8]
    data, salt, content_hash, digest, owner, key, fingerprint = event[8:]
    # Nothing here calls a function in Python, because an import makes millions of rows.
    columns = (
        _fixed_columns(_COLUMNS, 8, position, 8, recorded_us, UUID_BYTES, id_, 4, version, len(data) + 1),
        _JSONB_VERSION,
        data,
        _often(aggregate),
        _often(kind),
        _often(actor),
        _NULL if request_id is None else _length(len(request_id)) + request_id,
        _NULL if salt is None else _length(len(salt)) + salt,
        _NULL if content_hash is None else _length(len(content_hash)) + content_hash,
        _length(len(digest)) + digest,
        _NULL if owner is None else _length(len(owner)) + owner,
        _NULL if key is None else _length(len(key)) + key,
        _NULL if fingerprint is None else _length(len(fingerprint)) + fingerprint,
    )
    return b"".join(columns)


@lru_cache(4096)
def _often(value: bytes) -> bytes:
    """Return the column of a value that many events have."""
    return _length(len(value)) + value
