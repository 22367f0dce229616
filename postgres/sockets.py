"""The directory of a server's unix socket."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from postgres.errors import ClusterError
from postgres.ownership import give_to_owner

SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH_BYTES = 103  # of macOS, the shortest one; Linux allows 107


def socket_directory_for(directory: Path) -> Path:
    """Return the directory in which the server of a data directory listens.

    It is the data directory, or a private one with a short name. The short one is used where a socket's path would be
    too long for the system, or where libpq would read it as two hosts because of a comma.
    """
    path = str(directory / SOCKET_NAME)
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES and "," not in path and not path.startswith("@"):
        return directory
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"turnlog-{directory.stat().st_uid}-{name}"


def make_socket_directory(directory: Path) -> Path:
    """Return the socket directory of a data directory, created if need be.

    Raises:
        ClusterError: another user made it first.
    """
    short = socket_directory_for(directory)
    if short == directory:
        return directory
    try:
        short.mkdir(mode=0o700)
        give_to_owner(short, directory)
    except FileExistsError:
        pass  # left by a server that was killed, or made by another user, which is checked below
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != directory.stat().st_uid or found.st_mode & 0o077:
        raise ClusterError(f"{short}, where PostgreSQL's socket has to be, belongs to another user")
    return short
