"""The digest of an event in Python, equal to that of PostgreSQL."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import pack
from typing import Any, NamedTuple
from uuid import UUID

POSTGRESQL_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class DigestedEvent(NamedTuple):
    """An event as its digest covers it.

    `content` is the text of the column `data`. An erased event has neither salt nor content, and has `content_hash`.
    """

    position: int
    aggregate: str
    aggregate_id: UUID
    version: int
    type: str
    actor: str
    request_id: str | None
    recorded_at: datetime
    salt: bytes | None
    content: str | None
    content_hash: bytes | None = None

    def digest(self) -> bytes:
        """Return the SHA-256 of the event.

        Raises:
            ValueError: the event has neither content with a salt nor the hash of its content, or has both.
        """
        texts = (self.aggregate, self.type, self.actor, self.request_id)
        encoded = [None if text is None else text.encode() for text in texts]
        lengths = (-1 if text is None else len(text) for text in encoded)
        return sha256(
            pack(">q16siq", self.position, self.aggregate_id.bytes, self.version, _microseconds(self.recorded_at))
            + self._hash_of_content()
            + pack(">iiii", *lengths)
            + b"".join(text for text in encoded if text is not None)
        ).digest()

    def _hash_of_content(self) -> bytes:
        if self.content_hash is not None and self.salt is None and self.content is None:
            return self.content_hash
        if self.content_hash is None and self.salt is not None and self.content is not None:
            return sha256(self.salt + self.content.encode()).digest()
        raise ValueError("an event has a salt and content, or the hash of its erased content")

    def to_json(self) -> dict[str, Any]:
        """Return the event as an object of JSON, bytes in hexadecimal digits."""
        shown: dict[str, Any] = self._asdict()
        shown |= {"aggregate_id": str(self.aggregate_id), "recorded_at": self.recorded_at.isoformat()}
        for name in ("salt", "content_hash"):
            shown[name] = None if shown[name] is None else shown[name].hex()
        return {name: value for name, value in shown.items() if value is not None or name == "request_id"}


def _microseconds(at: datetime) -> int:
    return (at - POSTGRESQL_EPOCH) // timedelta(microseconds=1)
