"""Images of an export, as JSON Lines with their bytes in base64."""

from base64 import b64decode, b64encode
from collections.abc import Generator, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from audit.exports.errors import ExportDamagedError
from audit.exports.event_rows import SyncConnection
from audit.exports.part_file import PartFile, bounded_lines
from domain.images import sniff_media_type
from eventlog.db.statements import load_statements

_SQL = load_statements("audit.exports", "exported_images.sql")


class ExportedImage(NamedTuple):
    """An image as the table `images` holds it."""

    sha256: bytes
    media_type: str
    kept_at: datetime
    data: bytes


def write_images(connection: SyncConnection, file: PartFile, digests: Sequence[bytes]) -> int:
    """Write those of some images that the log has, and return their number.

    Raises:
        psycopg.Error: the database does not answer.
        OSError: they cannot be written.
    """
    count = 0
    for digest in digests:
        row = connection.execute(_SQL["read_image"], {"sha256": digest}, binary=True).fetchone()
        if row is not None:
            file.write(_line(ExportedImage(digest, *row)))
            file.check()
            count += 1
    return count


def read_images(path: Path) -> Generator[ExportedImage]:
    """Yield the images of a file.

    Raises:
        ExportDamagedError: a line holds no image, or another one than its SHA-256 or its media type says.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(bounded_lines(file), start=1):
            try:
                image = _parsed(line)
            except (KeyError, TypeError, ValueError):
                raise ExportDamagedError(f"{path.name}, line {number}: this is no image of an export.") from None
            if sha256(image.data).digest() != image.sha256:
                raise ExportDamagedError(f"{path.name}, line {number}: the image does not match its SHA-256.")
            if sniff_media_type(image.data) != image.media_type:
                raise ExportDamagedError(f"{path.name}, line {number}: the image is not of its media type.")
            yield image


def _line(image: ExportedImage) -> bytes:
    values = {
        "sha256": image.sha256.hex(),
        "media_type": image.media_type,
        "kept_at": image.kept_at.isoformat(),
        "data": b64encode(image.data).decode(),
    }
    return orjson.dumps(values) + b"\n"


def _parsed(line: bytes) -> ExportedImage:
    fields: dict[str, Any] = orjson.loads(line)
    kept_at, media_type = datetime.fromisoformat(fields["kept_at"]), fields["media_type"]
    if kept_at.tzinfo is None or not isinstance(media_type, str):
        raise ValueError("no time with a time zone, or no media type")
    return ExportedImage(bytes.fromhex(fields["sha256"]), media_type, kept_at, b64decode(fields["data"], validate=True))
