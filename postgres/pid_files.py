"""Lock files that hold a process id, and whether that process is PostgreSQL's."""

import os
import subprocess
from pathlib import Path


def recorded_pid(file: Path) -> int | None:
    """Return the process id on a lock file's first line, None without one."""
    try:
        first, *_ = file.read_text().splitlines()
        return abs(int(first))  # a negative one is that of PostgreSQL's single-user mode
    except (FileNotFoundError, ValueError):
        return None  # an empty file is one that is being written


def is_postmaster(pid: int, directory: Path) -> bool:
    """Return whether this process is alive and the postmaster of that data directory.

    A postmaster has the data directory as its working directory. Where that cannot be read, any live PostgreSQL counts.
    """
    if not is_alive(pid):
        return False
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
        except OSError:
            return False
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "comm="], capture_output=True, text=True, check=False)  # noqa: S607
    return "postgres" in listed.stdout


def is_alive(pid: int) -> bool:
    """Return whether a process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and another user's
    return True


def remove_if_reused(file: Path, directory: Path) -> None:
    """Remove a lock file whose process id now belongs to another program.

    PostgreSQL refuses to start as long as a recorded process is alive, whatever it is.
    """
    pid = recorded_pid(file)
    if pid is not None and is_alive(pid) and not is_postmaster(pid, directory):
        file.unlink()
