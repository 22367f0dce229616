"""The errors of the log, one tree.

LogError
├── StoreUnavailableError        PostgreSQL does not answer; a write may or may not be recorded
├── VersionTakenError            another writer recorded this version of the conversation first
├── IdempotencyKeyTakenError     another command recorded this owner's key first
├── UnstorableEventError         PostgreSQL cannot hold a value of the event
├── UnknownEventError            this release does not know a stored type or shape
└── MissingImageError            an event refers to an image that is not in the store
"""


class LogError(Exception):
    """The root of the log's errors."""


class StoreUnavailableError(LogError):
    """PostgreSQL does not answer. A write that had begun may or may not be recorded."""


class VersionTakenError(LogError):
    """Another writer recorded this version of the conversation first."""


class IdempotencyKeyTakenError(LogError):
    """Another command of the same owner recorded this idempotency key first."""


class UnstorableEventError(LogError):
    """PostgreSQL cannot hold a value of the event."""


class UnknownEventError(LogError):
    """A newer release wrote the event, and this one does not know its type or shape."""


class MissingImageError(LogError):
    """An event refers to an image that is not in the store."""
