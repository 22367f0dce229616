"""The clock and new ids. The domain takes both as arguments."""

from datetime import UTC, datetime
from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7


def now() -> datetime:
    """Return the current time in UTC, in microseconds."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """Return a new UUIDv7. Later ids are greater."""
    return uuid7()


def new_hex_id() -> str:
    """Return the 32 hexadecimal digits of a new UUIDv7."""
    # This takes a third of the time of new_id.
    return uuid_utils.uuid7().hex
