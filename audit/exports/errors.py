"""The errors of exports and of their import. Each message is one line.

AuditError
├── ExportError             an export cannot be written, or cannot be imported as it is
├── LogNotEmptyError        an export can only be imported into an empty log
└── LogDamagedError
    └── ExportDamagedError  a file of an export is not as it was written
"""

from audit.errors import AuditError, LogDamagedError


class ExportError(AuditError):
    """An export cannot be written, or cannot be imported as it is."""


class LogNotEmptyError(AuditError):
    """An export can only be imported into an empty log."""


class ExportDamagedError(LogDamagedError):
    """A file of an export is not as it was written."""
