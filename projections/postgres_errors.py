"""PostgreSQL's errors during a build, translated into projection errors."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from eventlog.errors import StoreUnavailableError
from projections.errors import BuildFailedError, BuildInterruptedError

# Classes of SQLSTATE: the connection or the server ends; resources and the disk.
_ENDING, _OUT_OF_RESOURCES = ("08", "57"), ("53", "58")
# lock_not_available and deadlock_detected.
_LOCKED = ("55P03", "40P01")


@contextmanager
def translate_build_errors(name: str) -> Generator[None]:
    """Raise BuildFailedError for an error of PostgreSQL, unless it is transient."""
    try:
        yield
    except psycopg.Error as error:
        if is_transient(error):
            raise
        raise BuildFailedError(name, error_message(error)) from error


@contextmanager
def translate_outage() -> Generator[None]:
    """Raise BuildInterruptedError where the database has gone."""
    try:
        yield
    except (psycopg.OperationalError, StoreUnavailableError) as error:
        raise BuildInterruptedError(f"The build was interrupted: {error_message(error)}.") from error


def is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed.

    The database does not answer, or another transaction holds a lock.
    """
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate in _LOCKED or error.sqlstate.startswith(_ENDING)


def is_out_of_resources(error: Exception) -> bool:
    """Return whether the server lacks space or memory, which no event causes."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_OUT_OF_RESOURCES)


def error_message(error: Exception) -> str:
    """Return the first line of an error's message without a period at its end."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return (primary or str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def describe_error(error: Exception) -> str:
    """Return type and message of an error, for operators."""
    # The other fields of PostgreSQL's errors quote rows.
    return f"{type(error).__name__}: {error_message(error)}" if isinstance(error, psycopg.Error) else repr(error)
