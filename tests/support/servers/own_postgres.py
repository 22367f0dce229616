"""An embedded PostgreSQL of a test's own, to stop, kill and replace.

with data_directory() as data_dir:
    put_cluster(data_dir)                   # a copy: initdb takes a second, so it runs once in a test process
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
    """Give an empty directory; at the end, whatever PostgreSQL still runs in it is killed and the directory removed.

    pytest's own paths are near the limit of a socket's, and closed to the user that root's PostgreSQL runs as.
    """
    directory = _new_directory()
    try:
        yield directory
    finally:
        end_postgres(directory)
        shutil.rmtree(directory, ignore_errors=True)


def put_cluster(data_dir: Path) -> None:
    """Put a cluster that was never started into a data directory that has none."""
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
        # Nothing is created in a copy, which is so a quarter as large.
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
    """Return the process id in the pid file, None where there is none or it is being written."""
    try:
        return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def postgres_processes(data_dir: Path) -> list[int]:
    """Return the process ids of the postmaster and of its children, which come first."""
    postmaster = postmaster_pid(data_dir)
    assert postmaster
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [*map(int, children), postmaster]


def kill_postmaster(data_dir: Path) -> int:
    """Kill the postmaster and return its process id. Its sessions live on until they have noticed."""
    pid = postmaster_pid(data_dir)
    assert pid
    os.kill(pid, signal.SIGKILL)
    return pid


def kill_postgres(data_dir: Path) -> None:
    """Kill the postmaster, and return when none of its processes is left."""
    processes = postgres_processes(data_dir)
    kill_postmaster(data_dir)
    wait_for_end_of(*processes)


def end_postgres(data_dir: Path) -> None:
    """Kill the postmaster where there is one, and return when it has gone."""
    if (pid := postmaster_pid(data_dir)) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            wait_for_end_of(pid)


def wait_for_end_of(*pids: int) -> None:
    """Wait until these processes have ended, be it that nobody has asked for their exit codes yet."""
    eventually(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in pids))


@contextmanager
def frozen_postgres(data_dir: Path) -> Generator[None]:
    """Stop every process of a PostgreSQL for as long as the block lasts."""
    pids = postgres_processes(data_dir)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
