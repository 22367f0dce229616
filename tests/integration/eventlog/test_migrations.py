"""The schema of the log equals its migrations and owns nothing outside itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from eventlog import migrations
from eventlog.db.requirements import UnusableDatabaseError
from eventlog.db.statements import load_statements
from eventlog.library.application import ConversationApplication
from eventlog.migrations import migrate, names
from projections.catalog import install
from tests.support.histories.builders import one_of_each
from tests.support.store import rows, value

_SHAPE = load_statements("tests.support", "catalog.sql")
EVERYTHING = ["columns", "indexes", "constraints", "triggers", "functions"]


def shape(conninfo: str, schema: str) -> dict[str, list[Any]]:
    """Return every object in `schema`, without the name of the schema."""
    return {
        kind: [[str(item).replace(f"{schema}.", "") for item in row] for row in rows(conninfo, _SHAPE[kind], [schema])]
        for kind in EVERYTHING
    }


def outside(conninfo: str, *schemas: str) -> list[Any]:
    """Return every object of the database outside these schemas and PostgreSQL's own."""
    return rows(conninfo, _SHAPE["outside"], [list(schemas)])


def prepare(conninfo: str) -> list[str]:
    applied = migrate(conninfo)
    install(conninfo)
    return applied


def at_once(executor: Any, work: Callable[[str], list[str]], conninfo: str, times: int) -> list[list[str]]:
    return [future.result() for future in [executor.submit(work, conninfo) for _ in range(times)]]


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [int(name.split("_")[0]) for name in names()] == list(range(1, len(names()) + 1))


def test_a_fresh_schema_equals_the_sum_of_its_migrations(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == names()
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA by_hand")
        connection.execute("SET search_path = by_hand")
        connection.execute("CREATE TABLE migrations (number integer PRIMARY KEY, name text NOT NULL)")
        for name in names():
            for statement in load_statements("eventlog.migrations", name).values():
                connection.execute(sql.SQL(statement))
    migrated = shape(empty_database_url, "turnlog")
    assert migrated == shape(empty_database_url, "by_hand")
    assert all(migrated.values())


def test_a_migrated_schema_needs_no_migration(database_url: str) -> None:
    assert migrate(database_url) == []


def test_a_log_of_an_older_release_gets_the_migrations_that_it_lacks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = names()
    later = f"{len(applied) + 1:04}_later.sql"

    def load(package: str, name: str) -> dict[str, LiteralString]:
        return (
            {"create_later": "CREATE TABLE later (number integer)"} if name == later else load_statements(package, name)
        )

    monkeypatch.setattr(migrations, "names", lambda: [*applied, later])
    monkeypatch.setattr(migrations, "load_statements", load)
    assert migrate(database_url) == [later]
    assert migrate(database_url) == []
    assert rows(database_url, "SELECT name FROM migrations ORDER BY number") == [(name,) for name in [*applied, later]]
    assert rows(database_url, "SELECT number FROM later") == []


def test_a_log_of_an_unreleased_version_is_refused_in_one_line(empty_database_url: str) -> None:
    migrate(empty_database_url)
    before = shape(empty_database_url, "turnlog")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("UPDATE turnlog.migrations SET name = '0002_leases.sql' WHERE number = 2")
        connection.execute("DELETE FROM turnlog.migrations WHERE number > 2")
    with pytest.raises(UnusableDatabaseError, match=r"^The log in turnlog is of an unreleased version .*0002_leases"):
        migrate(empty_database_url)
    assert shape(empty_database_url, "turnlog") == before


def test_a_failed_migration_leaves_nothing_and_can_be_retried(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA turnlog")
        connection.execute("CREATE TABLE turnlog.events (in_the_way integer)")
        try:
            migrate(empty_database_url)
        except psycopg.errors.DuplicateTable:
            pass
        else:
            raise AssertionError("the migration ignored an existing table")
        assert connection.execute("SELECT to_regclass('turnlog.head')").fetchone() == (None,)
        connection.execute("DROP TABLE turnlog.events")
    assert migrate(empty_database_url) == names()


def test_concurrent_threads_prepare_a_log_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(8) as executor:
        applied = at_once(executor, prepare, empty_database_url, 8)
    assert sorted(applied) == [[]] * 7 + [names()]


def test_concurrent_processes_prepare_a_log_once(empty_database_url: str) -> None:
    with get_context("spawn").Pool(3) as pool:
        applied = pool.map(prepare, [empty_database_url] * 6)
    assert sorted(applied) == [[]] * 5 + [names()]


def test_two_logs_live_in_one_database_and_own_nothing_outside_their_schemas(empty_database_url: str) -> None:
    before = outside(empty_database_url, "turnlog", "other_log")
    for schema in ("turnlog", "other_log"):
        migrate(empty_database_url, schema)
        install(empty_database_url, schema)
    assert outside(empty_database_url, "turnlog", "other_log") == before
    assert shape(empty_database_url, "turnlog") == shape(empty_database_url, "other_log")


def test_two_logs_in_one_database_are_independent(empty_database_url: str) -> None:
    env = {"PERSISTENCE_MODULE": "eventlog.library", "TURNLOG_DATABASE_URL": empty_database_url}
    events = one_of_each()
    with (
        ConversationApplication(env) as first,
        ConversationApplication({**env, "TURNLOG_LOG_SCHEMA": "other_log"}) as second,
    ):
        first.start(events)
        assert second.recorder.max_notification_id() is None
        second.start(events)
        first.start(one_of_each())
    assert value(empty_database_url, "SELECT position FROM head") == 2 * len(events)
    assert value(empty_database_url, "SELECT position FROM head", schema="other_log") == len(events)
