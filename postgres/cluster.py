"""Create, start and stop one PostgreSQL 18 data directory."""

import os
import shutil
import socket
from pathlib import Path
from time import monotonic, sleep

from postgres.errors import ClusterError
from postgres.ownership import give_to_owner, give_to_unprivileged_user
from postgres.pid_files import is_postmaster, recorded_pid, remove_if_reused
from postgres.programs import VERSION, failure_reason, run_program, start_server
from postgres.sockets import SOCKET_NAME, make_socket_directory, socket_directory_for

SUPERUSER = "postgres"
SETTINGS = Path(__file__).with_name("embedded.conf")
SETTINGS_NAME = "turnlog.conf"  # in the data directory; settings of ALTER SYSTEM are read after it
START_TIMEOUT_S = 300  # a start after a crash replays the WAL first
MEMORY_RELEASE_S = 10  # the backends of a killed server end by then, and release its shared memory
LARGEST_LOG_BYTES = 10 * 1024 * 1024

# The C.UTF-8 of PostgreSQL itself sorts alike on every machine, with any C library.
_INITDB_OPTIONS = (
    "--auth=trust",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--no-instructions",
)


class Cluster:
    """A PostgreSQL data directory.

    The caller holds a lock, so that no two calls run on one directory at once.
    """

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory = directory
        self.log = log

    def create(self) -> None:
        """Run initdb unless the directory holds a cluster.

        Raises:
            ClusterError: initdb fails, or the cluster is of another major version.
        """
        if self.exists():
            self._check_version()
        else:
            self._make()

    def start(self) -> None:
        """Start the server and return once it takes connections.

        Raises:
            ClusterError: it does not start.
        """
        self._remove_stale_pid_files()
        self._write_settings()
        deadline = monotonic() + MEMORY_RELEASE_S
        while (failure := self._try_start()) is not None:
            # The backends of a server that was killed hold its shared memory until they end.
            if "still in use" not in failure or monotonic() > deadline:
                raise ClusterError(f"PostgreSQL does not start in {self.directory}: {failure} (see {self.log})")
            sleep(0.1)

    def stop(self) -> None:
        """Stop the server, which rolls open transactions back.

        Raises:
            ClusterError: it does not stop.
        """
        sockets = self.socket_directory()
        done = run_program(self.directory, "pg_ctl", "stop", "-w", "-t", "60", "-m", "fast")
        if done.returncode:
            done = run_program(self.directory, "pg_ctl", "stop", "-w", "-t", "60", "-m", "immediate")
        if done.returncode and self.accepts_connections():
            raise ClusterError(f"PostgreSQL in {self.directory} does not stop: {failure_reason(done.stderr)}")
        if sockets is not None and sockets != self.directory:
            shutil.rmtree(sockets, ignore_errors=True)

    def accepts_connections(self) -> bool:
        """Return whether a server takes connections."""
        directory = self.socket_directory()
        if directory is None:
            return False
        # The socket is tried, because a pid file can outlive its server.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(directory / SOCKET_NAME)) == 0

    def exists(self) -> bool:
        """Return whether the directory holds a cluster."""
        return (self.directory / "PG_VERSION").exists()

    def has_process(self) -> bool:
        """Return whether a server process exists, be it starting or stopping."""
        pid = self._pid()
        return pid is not None and is_postmaster(pid, self.directory)

    def is_ready(self) -> bool:
        """Return whether the pid file says that the server takes connections."""
        lines = self._pid_file_lines()
        return len(lines) >= 8 and lines[7].strip() in ("ready", "standby")

    def has_died(self) -> bool:
        """Return whether a server ended without being stopped."""
        return self._pid() is not None and not self.has_process()

    def socket_directory(self) -> Path | None:
        """Return where the server listens, None when none was started."""
        lines = self._pid_file_lines()
        return Path(lines[4]) if len(lines) >= 5 and lines[4] else None

    def _make(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise ClusterError(f"{self.directory} is not empty and holds no PostgreSQL database")
        # Under another name until it is complete, so that an interrupted initdb is not taken for a cluster.
        half_made = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        give_to_unprivileged_user(half_made)
        done = run_program(half_made, "initdb", "--username", SUPERUSER, *_INITDB_OPTIONS)
        if done.returncode:
            raise ClusterError(f"PostgreSQL could not be set up in {self.directory}: {failure_reason(done.stderr)}")
        with (half_made / "postgresql.conf").open("a") as settings:
            settings.write(f"\ninclude_if_exists = '{SETTINGS_NAME}'\n")
        half_made.rename(self.directory)

    def _check_version(self) -> None:
        found = (self.directory / "PG_VERSION").read_text().strip()
        if found != VERSION:
            raise ClusterError(f"{self.directory} belongs to PostgreSQL {found}; Turnlog runs PostgreSQL {VERSION}")

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _pid(self) -> int | None:
        return recorded_pid(self.directory / "postmaster.pid")

    def _remove_stale_pid_files(self) -> None:
        sockets = self.socket_directory() or socket_directory_for(self.directory)
        for file in (self.directory / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
            remove_if_reused(file, self.directory)

    def _write_settings(self) -> None:
        sockets = str(make_socket_directory(self.directory)).replace('"', '""').replace("'", "''")
        # A new file each time: root must not write through a link that the directory's less trusted owner put there.
        new = self.directory / f"{SETTINGS_NAME}.new"
        new.unlink(missing_ok=True)
        with new.open("x") as file:
            file.write(f"{SETTINGS.read_text()}\nunix_socket_directories = '\"{sockets}\"'\n")
            give_to_owner(file.fileno(), self.directory)
        new.replace(self.directory / SETTINGS_NAME)

    def _try_start(self) -> str | None:
        """Return None once the server runs, else why it does not."""
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        with self.log.open("a+b") as log:
            before = log.seek(0, os.SEEK_END)
            exit_code = start_server(self.directory, log, START_TIMEOUT_S)
            log.seek(before)
            return failure_reason(log.read().decode(errors="replace")) if exit_code else None
