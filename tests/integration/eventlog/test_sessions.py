"""Sessions have Turnlog's settings in any environment, database and role."""

from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eventlog.db import sessions

LEAKING = {
    "PGOPTIONS": "-c search_path=elsewhere -c statement_timeout=9s",
    "PGTZ": "America/New_York",
    "PGDATESTYLE": "SQL, DMY",
    "PGCLIENTENCODING": "LATIN1",
    "PGAPPNAME": "somebody else",
}
DEFAULTS: dict[LiteralString, str] = {
    "TimeZone": "Asia/Kolkata",
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "search_path": "elsewhere",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1min",
    "lock_timeout": "1min",
    "transaction_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "1min",
}


def setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row
    return row[0]


def assert_ours(connection: psycopg.Connection) -> None:
    # Over a unix socket PostgreSQL shows the TCP settings as 0.
    wanted = {name: value for name, value in sessions.SETTINGS.items() if not name.startswith("tcp_")}
    assert {name: setting(connection, name) for name in wanted} == wanted
    assert setting(connection, "search_path") == '"turnlog"'
    assert setting(connection, "client_encoding") == "UTF8"
    assert setting(connection, "application_name") == "turnlog"


def test_the_environment_does_not_change_a_session(shared_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAKING.items():
        monkeypatch.setenv(name, value)
    with sessions.connect(shared_database_url, "turnlog") as connection:
        assert_ours(connection)


def test_the_defaults_of_the_database_do_not_change_a_session(empty_database_url: str) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for key, value in DEFAULTS.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(str(name)), sql.Identifier(key), sql.Literal(value)
            )
            connection.execute(statement)
    with sessions.connect(empty_database_url, "turnlog") as connection:
        assert_ours(connection)


def test_options_of_the_url_reach_the_server_and_turnlogs_take_precedence(shared_database_url: str) -> None:
    url = make_conninfo(shared_database_url, options="-c work_mem=7MB -c TimeZone=Asia/Kolkata")
    with sessions.connect(url, "turnlog") as connection:
        assert setting(connection, "work_mem") == "7MB"
        assert_ours(connection)


def test_a_session_may_have_further_settings(shared_database_url: str) -> None:
    with sessions.connect(shared_database_url, "turnlog", synchronous_commit="off") as connection:
        assert setting(connection, "synchronous_commit") == "off"
        assert_ours(connection)


def test_a_setting_that_this_postgresql_does_not_know_is_left_out(shared_database_url: str) -> None:
    with sessions.connect(shared_database_url, "turnlog", no_such_setting_of_18="on") as connection:
        assert_ours(connection)
