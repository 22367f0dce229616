"""Time and identity, which the domain takes as arguments."""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def now() -> datetime:
    """Return the present moment in UTC, to the microsecond."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """Return a UUIDv7: unique, and in the order of time."""
    return uuid7()
