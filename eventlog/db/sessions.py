"""Set up each session with PostgreSQL alike.

The environment, the database and the role do not matter. The settings are applied by a statement after connecting. The
startup parameter `options` stays free for the URL, and a pooler that refuses `options` works too.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from pydantic_core import to_json

from eventlog.db.statements import load_statements

COMMAND_CONNECT_TIMEOUT_S = 10

APPLY_SETTINGS = load_statements("eventlog.db", "sessions.sql")["apply_settings"]
"""The statement that applies settings. Its parameters come from `session_settings`."""

SETTINGS: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",  # PostgreSQL 17 and newer
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A client whose machine vanished loses its session, and with it its locks, after 25 s.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""The settings of each session, besides its `search_path`. The operator decides whether it may write."""


def session_settings(schema: str | None = None, **more: str) -> dict[str, str]:
    """Return the parameters of APPLY_SETTINGS, with `schema` as the search path."""
    settings = {**SETTINGS, **({} if schema is None else {"search_path": f'"{schema}"'}), **more}
    return {"settings": to_json(settings).decode()}


def connection_parameters(conninfo: str, connect_timeout_s: int) -> dict[str, Any]:
    """Return the arguments of psycopg that all connections share.

    They keep PGOPTIONS, PGCLIENTENCODING and PGAPPNAME out of the session.

    Raises:
        psycopg.ProgrammingError: the conninfo is malformed.
    """
    return {
        "autocommit": True,
        "connect_timeout": connect_timeout_s,
        "application_name": "turnlog",
        "client_encoding": "utf8",
        # libpq reads PGOPTIONS unless `options` is given, also as an empty string.
        "options": conninfo_to_dict(conninfo).get("options") or "",
    }


def connect(conninfo: str, schema: str | None = None, **settings: str) -> psycopg.Connection[TupleRow]:
    """Return a new blocking connection with the session settings.

    Commands and worker processes use it. `schema` comes first in the search path, and `settings` are applied besides.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    connection = psycopg.connect(conninfo, **connection_parameters(conninfo, COMMAND_CONNECT_TIMEOUT_S))
    try:
        connection.execute(APPLY_SETTINGS, session_settings(schema, **settings), prepare=False)
    except BaseException:
        connection.close()
        raise
    return connection
