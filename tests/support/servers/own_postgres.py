"""A separate embedded PostgreSQL for a test, to stop, kill and replace.

with cluster_directory() as data_dir:       # a copy, because initdb takes a second and runs once per test process
    with EmbeddedPostgres(data_dir) as embedded:
        killed = kill_postmaster(data_dir)
"""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psycopg

from postgres.embedded import EmbeddedPostgres
from postgres.programs import run_program
from tests.support.waiting import eventually


@contextmanager
def data_directory() -> Generator[Path]:
    """Yield an empty directory, then kill its PostgreSQL and remove it.

    pytest's paths are almost too long for a socket, and the user of root's PostgreSQL has no access to them.
    """
    directory = _new_directory()
    try:
        yield directory
    finally:
        end_postgres(directory)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def cluster_directory() -> Generator[Path]:
    """Yield a data directory with a cluster, then kill its PostgreSQL and remove it."""
    with data_directory() as directory:
        put_cluster(directory)
        yield directory


def put_cluster(data_dir: Path) -> None:
    """Put a cluster that was never started into an empty data directory."""
    data_dir.mkdir(exist_ok=True)
    copy_cluster(_made(), data_dir / "postgres")


def copy_cluster(postgres: Path, copy: Path) -> None:
    """Copy a stopped cluster with its owners and modes."""
    subprocess.run(["cp", "-a", postgres, copy], check=True)


def _new_directory() -> Path:
    """Return a new directory, in memory where there is room."""
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return Path(tempfile.mkdtemp(prefix="tl-", dir=memory if roomy else None))


@cache
def _made() -> Path:
    directory = _new_directory()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    with EmbeddedPostgres(directory) as embedded, psycopg.connect(embedded.conninfo, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # tests end processes, not the machine's power
        # No database is created in a copy, which therefore has a quarter of the size.
        for name in ("template0", "template1"):
            connection.execute(f"ALTER DATABASE {name} IS_TEMPLATE false".encode())
            connection.execute(f"DROP DATABASE {name}".encode())
    postgres = directory / "postgres"
    done = run_program(postgres, "pg_resetwal", "--wal-segsize=1", str(postgres))
    assert done.returncode == 0, done.stderr
    return postgres


def select(conninfo: str, expression: str) -> object:
    """Return the value of an expression."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(f"SELECT {expression}".encode()).fetchone()
        assert row is not None
        return row[0]


def postmaster_pid(data_dir: Path) -> int | None:
    """Return the process id in the pid file.

    Return None if there is no file or it is being written.
    """
    try:
        return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def postgres_processes(data_dir: Path) -> list[int]:
    """Return the process ids of the postmaster's children and its own."""
    postmaster = postmaster_pid(data_dir)
    assert postmaster
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [*map(int, children), postmaster]


def kill_postmaster(data_dir: Path) -> int:
    """Kill the postmaster and return its process id.

    Its sessions continue until they notice its death.
    """
    pid = postmaster_pid(data_dir)
    assert pid
    os.kill(pid, signal.SIGKILL)
    return pid


def kill_postgres(data_dir: Path) -> None:
    """Kill the postmaster and wait until none of its processes is left."""
    processes = postgres_processes(data_dir)
    kill_postmaster(data_dir)
    wait_for_end_of(*processes)


def end_postgres(data_dir: Path) -> None:
    """Kill the postmaster if there is one, and wait for its end."""
    if (pid := postmaster_pid(data_dir)) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            wait_for_end_of(pid)


def wait_for_end_of(*pids: int) -> None:
    """Wait until these processes have ended, even if they are not yet reaped."""
    eventually(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in pids))


@contextmanager
def frozen_postgres(data_dir: Path) -> Generator[None]:
    """Stop every process of a PostgreSQL until the end of the block."""
    postmaster = postmaster_pid(data_dir)
    assert postmaster
    os.kill(postmaster, signal.SIGSTOP)  # first, so that it neither starts a process nor reaps one that ends
    pids = postgres_processes(data_dir)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
