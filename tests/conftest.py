"""One embedded PostgreSQL for the whole run, with a new database per test.

The workers of xdist share it. It listens on its unix socket and on TCP. Tests use the socket unless
TURNLOG_TEST_TRANSPORT is `tcp`.
"""

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from postgres.cluster import Cluster
from postgres.embedded import EmbeddedPostgres
from tests.support.servers.own_postgres import cluster_directory

MIGRATED, INSTALLED = "turnlog_migrated", "turnlog_installed"
"""The template with a migrated log, and the one that also has the tables of all projections."""
# Tests end processes, not the machine's power, and no database lives long enough for a vacuum.
SWITCHED_OFF = ("fsync", "full_page_writes", "wal_compression", "autovacuum")
"""Settings of PostgreSQL that only take processor time here."""
TRANSPORT = "TURNLOG_TEST_TRANSPORT"
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 * 1024**3
_shared = pytest.StashKey[EmbeddedPostgres]()

# Tests of random examples take as long as a busy machine needs.
settings.register_profile("turnlog", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("turnlog")

# A shell that runs the tests in the background has SIGINT ignored, and the programs that they start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
    """Yield the conninfo of the run's PostgreSQL, which has the template databases."""
    worker: dict[str, Any] | None = getattr(request.config, "workerinput", None)
    with EmbeddedPostgres(Path(worker["data_dir"])) if worker else _listening(_ephemeral()) as embedded:
        _make_templates(embedded.conninfo)
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
def database_url(request: pytest.FixtureRequest, postgres: str, _databases: "_Databases") -> Iterator[str]:
    """Yield the conninfo of a database for this test, with a migrated log.

    The log is in the schema `turnlog`. For a test that serves or prepares it, all projections are installed.
    """
    # Such a test installs them anyway, which takes longer than a copy of their tables.
    installed = not {"serve", "prepared_url"}.isdisjoint(request.fixturenames)
    name = _databases.take(INSTALLED if installed else MIGRATED)
    yield make_conninfo(postgres, dbname=name)
    _drop(postgres, name)


@pytest.fixture(scope="session")
def shared_database_url(postgres: str) -> Iterator[str]:
    """Yield the conninfo of a shared database with all projections installed."""
    name = _create(postgres, INSTALLED)
    yield make_conninfo(postgres, dbname=name)
    _drop(postgres, name)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Yield a data directory whose PostgreSQL was never started."""
    with cluster_directory() as directory:
        yield directory


class _Databases:
    """Copies of the templates, each made while the previous test runs."""

    # Copying a template takes longer than most tests.

    def __init__(self, conninfo: str, executor: Executor) -> None:
        self._conninfo = conninfo
        self._executor = executor
        self._next: dict[str, Future[str]] = {}

    def take(self, template: str) -> str:
        copy = self._next.get(template) or self._make(template)
        self._next[template] = self._make(template)
        return copy.result()

    def _make(self, template: str) -> Future[str]:
        return self._executor.submit(_create, self._conninfo, template)


@pytest.fixture(scope="session")
def _databases(postgres: str) -> Iterator[_Databases]:
    with ThreadPoolExecutor(1) as executor:
        yield _Databases(postgres, executor)


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


def _make_templates(conninfo: str) -> None:
    """Create the template databases unless another process has created them."""
    from eventlog.migrations import migrate
    from projections.catalog import install

    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        found = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        if INSTALLED in found:
            return
        for setting in SWITCHED_OFF:
            connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
        connection.execute("SELECT pg_reload_conf()")
        if MIGRATED not in found:
            _make_template(conninfo, MIGRATED, "template1", migrate)
        _make_template(conninfo, INSTALLED, MIGRATED, install)


def _make_template(conninfo: str, name: str, template: str, fill: Callable[[str], object]) -> None:
    """Create a template database from another one.

    It gets its name at the end, so that an incomplete one is never used.
    """
    half_made = f"{name}_new"
    _execute(conninfo, "DROP DATABASE IF EXISTS {}", half_made)
    _execute(conninfo, "CREATE DATABASE {} TEMPLATE {}", half_made, template)
    fill(make_conninfo(conninfo, dbname=half_made))
    _execute(conninfo, "ALTER DATABASE {} RENAME TO {}", half_made, name)


def _execute(conninfo: str, statement: LiteralString, *names: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
