"""Check that a database can hold a log, and whether it holds one."""

import psycopg
from psycopg.rows import TupleRow

from eventlog.db.sessions import connect
from eventlog.db.statements import load_statements
from eventlog.errors import LogError

OLDEST_VERSION = 16
ENCODING = "UTF8"

_SQL = load_statements("eventlog.db", "requirements.sql")


class UnusableDatabaseError(LogError):
    """The database cannot hold a log or is not writable.

    The message is one line for the operator.
    """


def check_database(connection: psycopg.Connection[TupleRow]) -> bool:
    """Check that the database can hold a log, and return whether it is read-only.

    Raises:
        UnusableDatabaseError: it is too old, or its encoding cannot hold every text.
    """
    row = connection.execute(_SQL["read_server"]).fetchone()
    assert row
    name, version, encoding, read_only = row
    if version // 10_000 < OLDEST_VERSION:
        raise UnusableDatabaseError(
            f"The database {name} is on PostgreSQL {version // 10_000}; Turnlog needs {OLDEST_VERSION} or newer."
        )
    if encoding != ENCODING:
        raise UnusableDatabaseError(f"The database {name} has the encoding {encoding}; Turnlog needs {ENCODING}.")
    return read_only


def check_writable(conninfo: str) -> None:
    """Check that the database can hold a log and takes writes.

    Raises:
        UnusableDatabaseError: it cannot hold a log, or is read-only.
        psycopg.OperationalError: it does not answer.
    """
    if is_read_only(conninfo):
        raise UnusableDatabaseError("The database is read-only; Turnlog has to write to it.")


def is_read_only(conninfo: str) -> bool:
    """Return whether the database takes no writes.

    Raises:
        UnusableDatabaseError: it cannot hold a log.
        psycopg.OperationalError: it does not answer.
    """
    with connect(conninfo) as connection:
        return check_database(connection)


def holds_log(conninfo: str, schema: str) -> bool:
    """Return whether the schema holds a log, also one of an older release.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    with connect(conninfo) as connection:
        return has_table(connection, schema, "head")


def has_table(connection: psycopg.Connection[TupleRow], schema: str, table: str) -> bool:
    """Return whether the schema exists and has this table."""
    row = connection.execute(_SQL["has_table"], {"schema": schema, "table": table}).fetchone()
    return bool(row and row[0])
