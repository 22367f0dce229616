"""Choose the user that runs PostgreSQL, and let that user reach its files.

PostgreSQL refuses to run as root. In a process of another user these functions do nothing, and `identity_of` returns no
arguments.
"""

import os
import pwd
import stat
from pathlib import Path
from typing import TypedDict

from postgres.errors import ClusterError


class ProcessUser(TypedDict, total=False):
    """The arguments of `subprocess` that choose the user, empty for the caller's own."""

    user: int
    group: int
    extra_groups: list[int]


def identity_of(directory: Path) -> ProcessUser:
    """Return the owner of the data directory for root, else the caller's identity."""
    if os.geteuid() != 0:
        return {}
    owner = directory.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def give_to_unprivileged_user(directory: Path) -> None:
    """Give a new data directory to the user `postgres` or else `nobody`."""
    if os.geteuid() == 0:
        owner = _unprivileged_user()
        os.chown(directory, owner.pw_uid, owner.pw_gid)


def give_to_owner(path: Path | int, directory: Path) -> None:
    """Give a path or an open file to the owner of the data directory."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def open_to_other_users(directory: Path, programs: Path) -> None:
    """Let the unprivileged user reach its directory and the programs.

    It may then pass, but not list, their parents. Programs that a strict umask closed are made readable. Permissions
    that are wide enough stay as they are.
    """
    if os.geteuid() != 0:
        return
    for parent in (*directory.resolve().parents, *programs.resolve().parents):
        _add_mode(parent, stat.S_IXOTH)
    if not (programs / "postgres").stat().st_mode & stat.S_IROTH:
        for path in programs.parent.rglob("*"):
            executable = path.stat().st_mode & stat.S_IXUSR
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ClusterError("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as")


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)
