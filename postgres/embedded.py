"""The embedded PostgreSQL: a real PostgreSQL 18 on a unix socket.

The first process that needs it starts it. Any number of processes share one data directory. Each holds a shared lock
while it uses the server, and the last one stops it. The kernel drops the locks of a process that dies, so none is left
behind. A long-running process, such as a server, also watches PostgreSQL and restarts it when it dies.
"""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from postgres.cluster import SUPERUSER, Cluster
from postgres.errors import ClusterError, EmbeddedPostgresError
from postgres.sockets import socket_directory_for
from postgres.watchdog import CHECK_INTERVAL_S, Watchdog

# Each parameter that libpq would otherwise read from its environment, such as PGHOSTADDR, and that decides where a
# connection goes or whether it succeeds. `options` is left out, so that PGOPTIONS works for psql.
_PARAMETERS = {
    "port": "5432",
    "hostaddr": "",
    "sslmode": "disable",
    "gssencmode": "disable",
    "target_session_attrs": "any",
    "requirepeer": "",
    "channel_binding": "disable",
}


class Condition(Enum):
    """The condition of a data directory's server."""

    RUNNING = "running"
    STARTING = "starting"  # its process takes no connections yet, or no longer
    DIED = "died"  # a process with a watchdog restarts it
    STOPPED = "stopped"


class EmbeddedPostgres:
    """One process's use of the PostgreSQL of a data directory.

    The server runs at least from `start` to `stop`. Its files are under `<data_dir>/postgres`, its messages in
    `<data_dir>/postgres.log`. Only the owner of the directory reaches the socket. There is no password and no network
    port.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self._cluster = Cluster(self.data_dir / "postgres", self.data_dir / "postgres.log")
        self._share: int | None = None
        self._lock: int | None = None
        self._marker = self.data_dir / "postgres.died"
        self._watchdog: Watchdog | None = None
        self._remover: subprocess.Popen[bytes] | None = None

    @classmethod
    def ephemeral(cls) -> Self:
        """Return one on a temporary directory, which does not outlive this process."""
        embedded = cls(Path(tempfile.mkdtemp(prefix="turnlog-")))
        embedded._remover = _start_remover(embedded.data_dir)
        return embedded

    @property
    def conninfo(self) -> str:
        """The libpq URL of the running server.

        Raises:
            EmbeddedPostgresError: no server runs.
        """
        directory = self._cluster.socket_directory()
        if directory is None:
            raise EmbeddedPostgresError(f"PostgreSQL does not run in {self.data_dir}")
        parameters = urlencode({"host": str(directory), **_PARAMETERS}, quote_via=quote, safe="")
        return f"postgresql://{SUPERUSER}@/{SUPERUSER}?{parameters}"

    def exists(self) -> bool:
        """Return whether the data directory holds a database."""
        return self._cluster.exists()

    def serves(self, conninfo: str) -> bool:
        """Return whether a conninfo is that of this server, which need not run."""
        return conninfo_to_dict(conninfo).get("host") == str(socket_directory_for(self._cluster.directory))

    def condition(self) -> Condition:
        """Return the condition of the server. Every process sees the same."""
        if self._cluster.has_process():
            return Condition.RUNNING if self._cluster.is_ready() else Condition.STARTING
        return Condition.DIED if self._cluster.has_died() or self._marker.exists() else Condition.STOPPED

    def start(self) -> None:
        """Create the database if it is missing, and start the server unless it runs.

        Raises:
            EmbeddedPostgresError: the directory cannot be used, or PostgreSQL does not start in it.
        """
        with _clear_errors(self.data_dir):
            _make_data_directory(self.data_dir)
            with self._one_at_a_time():
                self._share = self._open("postgres.users")
                try:
                    fcntl.flock(self._share, fcntl.LOCK_SH)
                    self._cluster.create()
                    if not self._cluster.accepts_connections():
                        self._cluster.start()
                    self._marker.unlink(missing_ok=True)
                except BaseException:
                    self._leave()
                    raise

    def watch(self, interval_s: float = CHECK_INTERVAL_S) -> None:
        """Restart the server whenever it dies, until `stop`.

        A server that an operator stopped stays stopped.
        """
        self._watchdog = Watchdog(self._cluster, self._marker, self._try_lock, interval_s)
        self._watchdog.open()

    def stop(self) -> None:
        """End the use of the server, and stop it if no other process uses it.

        A second call does nothing.
        """
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        if self._share is not None:
            with _clear_errors(self.data_dir), self._one_at_a_time():
                self._leave()
        if self._remover is not None:
            self._remover.communicate()
            self._remover = None

    def _leave(self) -> None:
        share, self._share = self._share, None
        if share is None:
            return
        try:
            if _take_lock(share) and self._cluster.accepts_connections():  # else another process uses it
                self._cluster.stop()
        finally:
            fcntl.flock(share, fcntl.LOCK_UN)  # at once, even if a forked child holds the descriptor too
            os.close(share)

    @contextmanager
    def _one_at_a_time(self) -> Generator[None]:
        # A Ctrl-C just after the lock was taken leaves it held, and this process would then wait for itself.
        self._unlock()
        self._lock = self._open("postgres.lock")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            yield
        finally:
            self._unlock()

    @contextmanager
    def _try_lock(self) -> Generator[bool]:
        """Hold the lock for the block if it is free, and yield whether it was.

        The watchdog's thread calls it.
        """
        lock = self._open("postgres.lock")
        try:
            yield _take_lock(lock)
        finally:
            os.close(lock)

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _open(self, name: str) -> int:
        return os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def _take_lock(descriptor: int) -> bool:
    """Take an exclusive lock if it is free and return whether it was."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _clear_errors(data_dir: Path) -> Generator[None]:
    try:
        yield
    except ClusterError as error:
        raise EmbeddedPostgresError(str(error)) from error
    except OSError as error:
        where = error.filename or data_dir
        raise EmbeddedPostgresError(f"cannot use the data directory {data_dir}: {error.strerror} ({where})") from error


def _make_data_directory(data_dir: Path) -> None:
    # Private to its user. Root has to let PostgreSQL's user pass.
    data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)


_REMOVER = """
read -r _
if read -r pid < "$2"; then kill -QUIT "$pid"; fi
for _ in 1 2 3 4 5 6 7 8 9; do [ -e "$2" ] && sleep 0.2; done
rm -rf "$1"
"""


def _start_remover(data_dir: Path) -> "subprocess.Popen[bytes]":
    """Start a shell that removes the directory at the end of this process.

    It waits until its input is closed, then stops the server and removes the directory. The end of this process closes
    that input, also after a `kill -9`.
    """
    pid_file = data_dir / "postgres" / "postmaster.pid"
    return subprocess.Popen(
        ["/bin/sh", "-c", _REMOVER, "sh", data_dir, pid_file],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
