"""Description of a run: the machine, the versions and the commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

_SERVER_SETTINGS = ("server_version", "fsync", "synchronous_commit")


def describe(conninfo: str) -> dict[str, Any]:
    """Return date, commit and machine for the JSON of a run."""
    with psycopg.connect(conninfo) as connection:
        settings = {name: _setting(connection, name) for name in _SERVER_SETTINGS}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "postgresql": settings.pop("server_version"),
            **settings,
        },
    }


def peak_mb(pid: int | None = None) -> float:
    """Return the peak memory of a process, or of this one, in units of 10^6 bytes."""
    lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def postgresql_cpu_s(conninfo: str) -> float:
    """Return the processor time that a PostgreSQL on this machine has used so far.

    That of its sessions is included.
    """
    with psycopg.connect(conninfo) as connection:
        directory = Path(_setting(connection, "data_directory"))
    postmaster = int((directory / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    # The fields 14 to 17: the time of the process, in user and in system mode, and the same of its ended children. The
    # postmaster comes last, so that it has the time of a child that ends meanwhile.
    ticks = sum(sum(map(int, _fields(pid)[11:15])) for pid in (*children, str(postmaster)))
    return ticks / os.sysconf("SC_CLK_TCK")


def _fields(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return row[0] if row else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str | None:
    """Return the commit, or None outside a repository.

    A plus marks a working tree with changes.
    """
    commit, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain")
    return f"{commit}{'+' if changes else ''}" if commit else None


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
