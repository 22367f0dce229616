"""How every session with PostgreSQL is set up, whatever the environment, the database and the role say.

The settings are applied by a statement after connecting. The startup parameter `options` stays free for what the URL
itself asks for, and a pooler that refuses `options` does not stand in the way.
"""

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from pydantic_core import to_json

CONNECT_TIMEOUT_S = 5

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
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A client whose machine vanished loses its session, and with it its locks, after 25 s.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""What each session of Turnlog has, beside its `search_path`. Whether it may write is left to the operator."""

# An older PostgreSQL lacks some of the settings, such as transaction_timeout before 17.
APPLY_SETTINGS: LiteralString = """
    SELECT pg_catalog.set_config(name, setting, false)
    FROM pg_catalog.jsonb_each_text(%s::text::jsonb) AS given (name, setting)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL"""
"""The statement that applies settings; its parameters come from `session_settings`."""


def session_settings(schema: str | None = None, **more: str) -> list[str]:
    """Return the parameters of APPLY_SETTINGS: the settings, `schema` as the search path, and what `more` adds."""
    settings = {**SETTINGS, **({} if schema is None else {"search_path": f'"{schema}"'}), **more}
    return [to_json(settings).decode()]


def startup_parameters(conninfo: str) -> dict[str, Any]:
    """Return the arguments of `connect` that keep PGOPTIONS, PGCLIENTENCODING and PGAPPNAME out of a session.

    Raises:
        psycopg.ProgrammingError: the conninfo is malformed.
    """
    # libpq reads PGOPTIONS only where `options` is not given, be it empty.
    options = conninfo_to_dict(conninfo).get("options") or ""
    return {"application_name": "turnlog", "client_encoding": "utf8", "options": options}


def connect(conninfo: str, schema: str | None = None, **settings: str) -> psycopg.Connection[TupleRow]:
    """Return a new connection in autocommit with the session settings, `schema` first and `settings` besides.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    parameters: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, **startup_parameters(conninfo)}
    connection = psycopg.connect(conninfo, autocommit=True, **parameters)
    try:
        connection.execute(APPLY_SETTINGS, session_settings(schema, **settings), prepare=False)
    except BaseException:
        connection.close()
        raise
    return connection
