"""What the log refuses, beyond the domain's own errors.

LogError
├── StoreUnavailableError        PostgreSQL does not answer; what was asked may or may not have been recorded
├── VersionTakenError            another writer recorded this version of the conversation first
├── IdempotencyKeyTakenError     another command recorded this owner's key first
├── UnstorableEventError         PostgreSQL cannot hold a value of the event
├── UnknownEventError            a stored type or shape that this release does not know
└── MissingImageError            an event refers to an image that is not in the store
"""


class LogError(Exception):
    """The root of the log's errors."""


class StoreUnavailableError(LogError):
    """PostgreSQL does not answer; a write that was under way may or may not have been recorded."""


class VersionTakenError(LogError):
    """Another writer recorded this version of the conversation first."""


class IdempotencyKeyTakenError(LogError):
    """Another command of the same owner recorded this idempotency key first."""


class UnstorableEventError(LogError):
    """PostgreSQL cannot hold a value of the event."""


class UnknownEventError(LogError):
    """A stored type, or a shape of it, that this release does not know: it is older than the log."""


class MissingImageError(LogError):
    """An event refers to an image that is not in the store: somebody has removed it."""
