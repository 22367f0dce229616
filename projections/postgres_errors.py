"""Translating what PostgreSQL refuses while something is built, and that it has gone."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from eventlog.errors import StoreUnavailableError
from projections.errors import BuildFailedError, BuildInterruptedError

# Classes of SQLSTATE: a connection or the server ends; resources and the disk.
_ENDING, _EXHAUSTED = ("08", "57"), ("53", "58")
# A lock is held for too long; a deadlock.
_LOCKED = ("55P03", "40P01")


@contextmanager
def translate_build_errors(name: str) -> Generator[None]:
    """Translate what PostgreSQL refuses of a build into BuildFailedError; what passes is left as it is."""
    try:
        yield
    except psycopg.Error as error:
        if is_transient(error):
            raise
        raise BuildFailedError(name, error_message(error)) from error


@contextmanager
def translate_outage() -> Generator[None]:
    """Translate that the database has gone into BuildInterruptedError."""
    try:
        yield
    except (psycopg.OperationalError, StoreUnavailableError) as error:
        raise BuildInterruptedError(f"The build was interrupted: {error_message(error)}.") from error


def is_transient(error: Exception) -> bool:
    """Return whether the same may work another time: the database does not answer, or somebody holds a lock."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate in _LOCKED or error.sqlstate.startswith(_ENDING)


def is_out_of_resources(error: Exception) -> bool:
    """Return whether the server lacks space or memory, which no event is to blame for."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_EXHAUSTED)


def error_message(error: Exception) -> str:
    """Return what happened as part of a sentence."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return (primary or str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def describe_error(error: Exception) -> str:
    """Return an error as operators read it; of PostgreSQL's its message alone, for the rest quotes rows."""
    return f"{type(error).__name__}: {error_message(error)}" if isinstance(error, psycopg.Error) else repr(error)
