"""The errors of audits, one tree. Those of exports are in `audit.exports.errors`.

Those of proofs are a tree of their own, in `audit.proofs.errors`.

AuditError
├── LogDamagedError       the log, or its sealed tree, is not whole
├── OtherLogError         a checkpoint is that of another log
└── NoSuchEventError      the log has no event at a position
"""


class AuditError(Exception):
    """The root of the errors of audits."""


class LogDamagedError(AuditError):
    """The log, or its sealed tree, is not whole."""


class OtherLogError(AuditError):
    """A checkpoint is that of another log."""


class NoSuchEventError(AuditError):
    """The log has no event at a position."""
