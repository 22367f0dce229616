"""Time and identity, which the domain takes as arguments."""

from datetime import UTC, datetime
from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7


def now() -> datetime:
    """Return the present moment in UTC, to the microsecond."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """Return a UUIDv7: unique, and in the order of time."""
    return uuid7()


def new_hex_id() -> str:
    """Return the 32 hexadecimal digits of one, at a third of its cost."""
    return uuid_utils.uuid7().hex
