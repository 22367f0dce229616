"""Commands on an existing log, its database, and the environment of libpq."""

import asyncio
import json
import subprocess
import sysconfig
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from uuid import UUID, uuid4

import click
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cli.main import turnlog as command_line
from eventlog.migrations import migrate
from postgres.embedded import EmbeddedPostgres
from projections.catalog import prepare
from tests.support.command_line import Finished, clean_environment, run_here
from tests.support.histories.builders import Story
from tests.support.rebuilding import url
from tests.support.servers.own_postgres import cluster_directory
from tests.support.store import opened, rows, value

TURNLOG = Path(sysconfig.get_path("scripts")) / "turnlog"
READING = [
    ("log", "tail"),
    ("log", "show", str(UUID(int=7))),
    ("projections", "status"),
    ("log", "verify"),
    ("log", "checkpoint"),
    ("log", "prove", "1"),
    ("log", "export", "--out", "no-such-directory/export"),
]
REPLAY = ("replay", str(UUID(int=7)))
KEYS = [
    ("keys", "list"),
    ("keys", "create", "--owner", "alice", "--role", "user"),
    ("keys", "revoke", str(UUID(int=7))),
]
WRITING = [
    ("projections", "rebuild", "--all"),
    ("projections", "rebuild", "--all", "--prune"),
    ("projections", "verify", "--all"),
    ("projections", "build", "--as-of", "1", "--schema", "past"),
]
IMPORT = ("import", str(Path(__file__).parents[1] / "support" / "exports" / "example.jsonl"))
SERVE = ("serve", "--port", "0")
LEAKING = {
    "PGTZ": "America/New_York",
    "PGDATESTYLE": "SQL, DMY",
    "PGOPTIONS": "-c search_path=elsewhere -c default_transaction_read_only=on -c timezone=Asia/Kolkata",
    "PGCLIENTENCODING": "LATIN1",
}
ELSEWHERE = {
    "PGHOST": "127.0.0.1",
    "PGHOSTADDR": "127.0.0.1",
    "PGPORT": "1",
    "PGDATABASE": "elsewhere",
    "PGUSER": "somebody",
    "PGSERVICE": "no_such_service",
    "PGSERVICEFILE": "/no/such/file",
    "PGSSLMODE": "require",
    "PGGSSENCMODE": "require",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "somebody",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGSSLNEGOTIATION": "direct",
    "PGMINPROTOCOLVERSION": "3.2",
}


def turnlog(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command in a process of its own."""
    variables = clean_environment(**(environment or {}))
    done = subprocess.run([TURNLOG, *arguments], capture_output=True, text=True, timeout=60, env=variables)
    return Finished(done.returncode, done.stdout, done.stderr)


def check_refused(done: Finished, *words: str) -> None:
    code, out, err = done
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("Error: ")
    assert [word for word in words if word not in err] == [], err


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A data directory with a log of one conversation and a stopped PostgreSQL."""
    with cluster_directory() as data_dir:
        with EmbeddedPostgres(data_dir) as embedded:
            prepare(embedded.conninfo, "turnlog")
            asyncio.run(recorded(embedded.conninfo))
        yield data_dir


async def recorded(conninfo: str) -> None:
    async with opened(conninfo, listening=False) as store:
        await store.append(Story(title="kept").events)


@contextmanager
def database_defaults(conninfo: str, settings: Mapping[LiteralString, str]) -> Generator[None]:
    """Give the database defaults of its own for the block."""
    database = sql.Identifier(str(conninfo_to_dict(conninfo)["dbname"]))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for name, setting in settings.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(statement.format(database, sql.Identifier(name), sql.Literal(setting)))
        yield
        # This session began before the change, so the new defaults do not apply to it.
        connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(database))


def all_commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the names of all commands of a group, each with the names of its groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, *path, name)
        else:
            yield (*path, name)


def test_every_command_but_serve_is_tested_to_open_an_existing_log_only() -> None:
    tested = [*READING, REPLAY, *KEYS, *WRITING, IMPORT]
    untested = {path for path in all_commands(command_line) if all(each[: len(path)] != path for each in tested)}
    assert untested == {("serve",)}


@pytest.mark.parametrize("command", [*READING, REPLAY, *KEYS, *WRITING, IMPORT], ids=" ".join)
def test_a_wrong_data_directory_is_an_error_and_creates_nothing(command: tuple[str, ...], tmp_path: Path) -> None:
    check_refused(run_here(*command, "--data-dir", tmp_path / "typo"), "There is no log in", "typo")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "postgres").mkdir()
    check_refused(run_here(*command, "--data-dir", tmp_path), "There is no log in")
    assert list((tmp_path / "postgres").iterdir()) == []


@pytest.mark.parametrize("command", [READING[0], REPLAY, KEYS[1], WRITING[0], IMPORT], ids=" ".join)
def test_a_database_without_a_log_is_an_error_and_creates_nothing(
    command: tuple[str, ...], empty_database_url: str
) -> None:
    done = run_here(*command, "--database-url", url(empty_database_url))
    check_refused(done, "no log in the schema turnlog")
    assert value(empty_database_url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'turnlog'") == 0


def test_another_schema_of_a_database_with_a_log_is_an_error(database_url: str) -> None:
    done = turnlog("log", "tail", "--database-url", url(database_url), environment={"TURNLOG_LOG_SCHEMA": "typo"})
    check_refused(done, "no log in the schema typo")


def test_the_environment_changes_neither_the_time_zone_nor_the_database(data_dir: Path) -> None:
    expected = turnlog("log", "tail", "--json", "--data-dir", data_dir)
    assert json.loads(expected[1])["recorded_at"].endswith("Z")
    assert turnlog("log", "tail", "--json", "--data-dir", data_dir, environment=LEAKING | ELSEWHERE) == expected


@pytest.mark.parametrize("command", WRITING[2:], ids=" ".join)
def test_the_environment_does_not_affect_building(command: tuple[str, ...], data_dir: Path) -> None:
    code, _, err = turnlog(*command, "--data-dir", data_dir, environment=LEAKING | ELSEWHERE)
    assert (code, "Traceback" in err) == (0, False), err


@pytest.mark.parametrize("name", ["PGHOSTADDR", "PGSERVICE", "PGSSLNEGOTIATION", "PGCONNECT_TIMEOUT"])
def test_no_variable_of_libpq_changes_the_connection_to_the_embedded_postgresql(name: str, data_dir: Path) -> None:
    environment = {name: ELSEWHERE[name]}
    assert turnlog("projections", "status", "--data-dir", data_dir, environment=environment)[0] == 0


def test_defaults_of_the_database_change_nothing(database_url: str) -> None:
    prepare(database_url, "turnlog")
    asyncio.run(recorded(database_url))
    address = ("--database-url", url(database_url))
    expected = turnlog("log", "tail", "--json", *address)
    settings: dict[LiteralString, str] = {
        "timezone": "Asia/Kolkata",
        "datestyle": "German",
        "search_path": "elsewhere",
        "statement_timeout": "1min",
        "bytea_output": "escape",
    }
    with database_defaults(database_url, settings):
        assert turnlog("log", "tail", "--json", *address, environment=LEAKING) == expected
        for command in (*WRITING, IMPORT):
            code, _, err = turnlog(*command, *address, environment=LEAKING)
            assert code in (0, 3), err


@pytest.mark.parametrize("command", [SERVE, WRITING[2], IMPORT], ids=" ".join)
def test_commands_that_write_report_a_read_only_database(command: tuple[str, ...], database_url: str) -> None:
    prepare(database_url, "turnlog")
    with database_defaults(database_url, {"default_transaction_read_only": "on"}):
        check_refused(turnlog(*command, "--database-url", url(database_url)), "read-only")


@pytest.mark.parametrize("command", [READING[0], READING[2], READING[3]], ids=" ".join)
def test_a_read_only_database_can_be_read(command: tuple[str, ...], database_url: str) -> None:
    prepare(database_url, "turnlog")
    with database_defaults(database_url, {"default_transaction_read_only": "on"}):
        assert run_here(*command, "--database-url", url(database_url))[0] == 0


def test_a_read_only_database_with_an_older_log_is_an_error(database_url: str) -> None:
    rows(database_url, "DELETE FROM migrations")
    with database_defaults(database_url, {"default_transaction_read_only": "on"}):
        done = run_here("log", "tail", "--database-url", url(database_url))
        check_refused(done, "read-only", "not up to date")


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def wrong_encoding_url(request: pytest.FixtureRequest, postgres: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    statement = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C' LOCALE_PROVIDER libc"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Literal(request.param)))
        yield make_conninfo(postgres, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_database_of_another_encoding_is_an_error(wrong_encoding_url: str) -> None:
    check_refused(turnlog(*SERVE, "--database-url", url(wrong_encoding_url)), "encoding", "UTF8")
    check_refused(run_here("log", "tail", "--database-url", url(wrong_encoding_url)))
    assert value(wrong_encoding_url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'turnlog'") == 0


@pytest.fixture
def unprivileged_role(postgres: str) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"stranger_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_role_that_may_not_create_is_an_error(empty_database_url: str, unprivileged_role: str) -> None:
    as_role = url(make_conninfo(empty_database_url, user=unprivileged_role))
    check_refused(turnlog(*SERVE, "--workers", "2", "--database-url", as_role), "permission denied for database")


@pytest.mark.parametrize("command", [READING[2], WRITING[0]], ids=" ".join)
def test_a_role_that_may_not_read_is_an_error(
    command: tuple[str, ...], database_url: str, unprivileged_role: str
) -> None:
    as_role = url(make_conninfo(database_url, user=unprivileged_role))
    check_refused(run_here(*command, "--database-url", as_role), "permission denied")


@pytest.mark.parametrize("as_of", ["2", "10000000000000000000000", "2999-01-01T00:00:00Z", "0"])
def test_a_moment_beyond_the_log_is_an_error(as_of: str, data_dir: Path) -> None:
    done = run_here("projections", "build", "--as-of", as_of, "--schema", "beyond", "--data-dir", data_dir)
    check_refused(done, as_of[:4])


def test_a_standby_can_be_read_and_not_written(data_dir: Path, tmp_path: Path) -> None:
    standby = data_dir / "postgres" / "standby.signal"
    standby.touch()
    try:
        code, out, err = turnlog("log", "tail", "--data-dir", data_dir)
        assert (code, "kept" in out, err) == (0, True, "")
        with EmbeddedPostgres(data_dir):  # so that the other commands need not start it
            key = ("--key", str(tmp_path / "key"))
            audits = [("log", "verify"), ("log", "checkpoint", *key), ("log", "prove", "1", *key)]
            export = ("log", "export", "--out", str(tmp_path / "export"))
            for command in (("projections", "status"), *audits, export):
                assert run_here(*command, "--data-dir", data_dir)[0] == 0
            check_refused(run_here("import", tmp_path / "export", "--data-dir", data_dir), "read-only")
            check_refused(turnlog(*SERVE, "--data-dir", data_dir), "read-only")
            for command in (*WRITING, IMPORT):
                check_refused(run_here(*command, "--data-dir", data_dir), "read-only")
    finally:
        standby.unlink()


def test_a_migrated_log_needs_no_right_to_create(database_url: str, unprivileged_role: str) -> None:
    for statement in ("GRANT USAGE ON SCHEMA turnlog TO {}", "GRANT SELECT ON ALL TABLES IN SCHEMA turnlog TO {}"):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(unprivileged_role)))
    assert migrate(make_conninfo(database_url, user=unprivileged_role)) == []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(unprivileged_role)))
