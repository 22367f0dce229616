"""One embedded PostgreSQL for the whole run, with a new database per test.

The workers of xdist share it. It listens on its unix socket and on TCP. Tests use the socket unless
TURNLOG_TEST_TRANSPORT is `tcp`.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from postgres.cluster import Cluster
from postgres.embedded import EmbeddedPostgres
from tests.support.servers.own_postgres import data_directory, put_cluster

TEMPLATE = "turnlog_template"
TRANSPORT = "TURNLOG_TEST_TRANSPORT"
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 * 1024**3
_shared = pytest.StashKey[EmbeddedPostgres]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of cores, at least 4, or 0 with `-k`.

    The tests wait for half of their time, so two cores can run four processes. Tests that `-k` selects run in this
    process, because they are few and each further process would first collect all tests.
    """
    return 0 if config.option.keyword else max(4, os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first, so that the processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "e2e" not in item.path.parts))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker of xdist the same data directory.

    The first worker starts PostgreSQL in it.
    """
    if _shared not in node.config.stash:
        node.config.stash[_shared] = _listening(_ephemeral())
    node.workerinput["data_dir"] = str(node.config.stash[_shared].data_dir)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _shared in config.stash:
        config.stash[_shared].stop()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the conninfo of the run's PostgreSQL, which has the template database."""
    worker: dict[str, Any] | None = getattr(request.config, "workerinput", None)
    with EmbeddedPostgres(Path(worker["data_dir"])) if worker else _listening(_ephemeral()) as embedded:
        _make_template(embedded.conninfo)
        yield over_tcp(embedded.conninfo) if os.environ.get(TRANSPORT) == "tcp" else embedded.conninfo


def over_tcp(conninfo: str) -> str:
    """Return the conninfo of the same database over TCP."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SHOW listen_addresses").fetchone()
        assert row
        return make_conninfo(conninfo, host=row[0])


@pytest.fixture(params=["unix", "tcp"])
def either_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """Return the conninfo of `database_url` over a unix socket, and over TCP."""
    return over_tcp(database_url) if request.param == "tcp" else database_url


@pytest.fixture
def empty_database_url(postgres: str) -> Iterator[str]:
    """Yield the conninfo of an empty database for this test."""
    name = _create(postgres, "template0")
    yield make_conninfo(postgres, dbname=name)
    _drop(postgres, name)


@pytest.fixture
def database_url(postgres: str, _next_database: "_NextDatabase") -> Iterator[str]:
    """Yield the conninfo of a database for this test, with a migrated log.

    The log is in the schema `turnlog`.
    """
    name = _next_database.take()
    yield make_conninfo(postgres, dbname=name)
    _drop(postgres, name)


@pytest.fixture(scope="session")
def shared_database_url(postgres: str) -> Iterator[str]:
    """Yield the conninfo of a migrated database that tests share."""
    name = _create(postgres, TEMPLATE)
    yield make_conninfo(postgres, dbname=name)
    _drop(postgres, name)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Yield a data directory whose PostgreSQL was never started."""
    with data_directory() as directory:
        put_cluster(directory)
        yield directory


class _NextDatabase:
    """Copies of the template, each made while the previous test runs."""

    # Copying the template takes longer than most tests.

    def __init__(self, conninfo: str, executor: Executor) -> None:
        self._conninfo = conninfo
        self._executor = executor
        self._next = self._make()

    def take(self) -> str:
        name, self._next = self._next.result(), self._make()
        return name

    def _make(self) -> Future[str]:
        return self._executor.submit(_create, self._conninfo, TEMPLATE)


@pytest.fixture(scope="session")
def _next_database(postgres: str) -> Iterator[_NextDatabase]:
    with ThreadPoolExecutor(1) as executor:
        yield _NextDatabase(postgres, executor)


def _ephemeral() -> EmbeddedPostgres:
    """Return a PostgreSQL on temporary storage, in memory where there is room."""
    # Copying a database in memory takes a seventh of the time.
    with pytest.MonkeyPatch.context() as patched:
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
            patched.setattr(tempfile, "tempdir", str(MEMORY))
        return EmbeddedPostgres.ephemeral()


def _listening(embedded: EmbeddedPostgres) -> EmbeddedPostgres:
    """Make a PostgreSQL that was never started listen on a loopback address.

    The address is random, so that no other process uses its port.
    """
    directory = embedded.data_dir / "postgres"
    embedded.data_dir.chmod(0o711)
    Cluster(directory, embedded.data_dir / "postgres.log").create()
    address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])
    with (directory / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"listen_addresses = '{address}'\n")
    with (directory / "pg_hba.conf").open("a") as access:
        access.write("host all all 127.0.0.0/8 trust\n")
    return embedded


def _create(conninfo: str, template: str) -> str:
    name = f"test_{uuid4().hex}"
    _execute(conninfo, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
    return name


def _drop(conninfo: str, name: str) -> None:
    _execute(conninfo, "DROP DATABASE {} WITH (FORCE)", name)


def _make_template(conninfo: str) -> None:
    """Create the template database unless another process has created it.

    It gets its name at the end, so that an incomplete one is never used.
    """
    from eventlog.migrations import migrate

    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            return
        connection.execute("ALTER SYSTEM SET fsync = off")  # tests end processes, not the machine's power
        connection.execute("SELECT pg_reload_conf()")
        half_made = f"{TEMPLATE}_new"
        _execute(conninfo, "DROP DATABASE IF EXISTS {}", half_made)
        _execute(conninfo, "CREATE DATABASE {}", half_made)
        migrate(make_conninfo(conninfo, dbname=half_made))
        _execute(conninfo, "ALTER DATABASE {} RENAME TO {}", half_made, TEMPLATE)


def _execute(conninfo: str, statement: LiteralString, *names: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
