"""Errors as logs may show them, without what a client or a model has sent.

The text of an error may quote content, such as the row in PostgreSQL's DETAIL or pydantic's `input_value`. So it is
shown only of classes whose text never does. Every error has its type, and a traceback its files and lines.
"""

import traceback
from collections.abc import Iterator

import psycopg

from audit.errors import LogDamagedError
from domain.errors import DomainError, IdempotencyKeyReusedError, InvalidContentError, UnsupportedImageError
from eventlog.db.requirements import UnusableDatabaseError
from eventlog.errors import LogError
from postgres.errors import EmbeddedPostgresError
from projections.errors import BuildFailedError, ProjectionError, ProjectionFailedError
from turns.model.errors import ModelError

_SHOWN: tuple[type[BaseException], ...] = (
    AssertionError,
    AttributeError,
    DomainError,
    EmbeddedPostgresError,
    ImportError,
    LogDamagedError,
    LogError,
    ModelError,
    NameError,
    OSError,
    ProjectionError,
    UnusableDatabaseError,
)
_HIDDEN = (
    BuildFailedError,
    IdempotencyKeyReusedError,
    InvalidContentError,
    ProjectionFailedError,
    UnsupportedImageError,
)
_QUOTING_STATES = ("22", "23", "P0")
"""Classes of SQLSTATE whose messages may quote a value: data, integrity, and raised in PL/pgSQL."""
_MAX_CHAIN = 8


def describe(error: BaseException, *, with_cause: bool = True) -> str:
    """Return type and, where it is safe, text of an error in one line.

    An error whose text is left out has its cause instead.
    """
    name, text = type(error).__name__, ""
    if isinstance(error, psycopg.Error):
        name = f"{name} ({error.sqlstate})" if error.sqlstate else name
        text = _text_of_postgres(error)
    elif isinstance(error, _SHOWN) and not isinstance(error, _HIDDEN):
        text = str(error)
    elif error.__cause__ is not None and with_cause:
        text = describe(error.__cause__, with_cause=False)
    return f"{name}: {' '.join(text.split())}" if text else name


def _text_of_postgres(error: psycopg.Error) -> str:
    if error.sqlstate is None:
        # libpq's, about the connection
        return str(error) if isinstance(error, psycopg.OperationalError) else ""
    return "" if error.sqlstate.startswith(_QUOTING_STATES) else error.diag.message_primary or ""


def describe_with_traceback(error: BaseException) -> str:
    """Return an error and its causes with their tracebacks, oldest first."""
    parts: list[str] = []
    for each in reversed(list(_chain(error))):
        frames = "".join(traceback.format_tb(each.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{describe(each)}")
    return "\n\n".join(parts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen and len(seen) < _MAX_CHAIN:
        yield each
        seen.add(id(each))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
