"""Starts the embedded PostgreSQL again when it died under the processes that use it.

A death leaves the pid file behind: `kill -9`, the OOM killer. A PostgreSQL that was stopped in an orderly way has
removed it; that is its operator's will and is not undone, so a data directory may be replaced under running servers.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from postgres.cluster import Cluster, ClusterError

LOOK_EVERY_S = 0.5
MAX_PAUSE_S = 10.0
SAY_AGAIN_AFTER_S = 60.0

_log = logging.getLogger(__name__)


class Watchdog:
    """A thread that looks after one cluster from `open` to `close`.

    `try_lock` gives the lock that keeps other processes from starting or stopping the server, or False while one of
    them has it. `marker` is a file that is there from a death until the server runs again, so that every process
    knows of a death whose pid file a failed start has removed.
    """

    def __init__(
        self,
        cluster: Cluster,
        marker: Path,
        try_lock: Callable[[], AbstractContextManager[bool]],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._cluster = cluster
        self._marker = marker
        self._try_lock = try_lock
        self._look_every_s = look_every_s
        self._ending = Event()
        self._thread = Thread(target=self._run, name="embedded PostgreSQL", daemon=True)
        self._failures = _Failures(cluster.directory)

    def open(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching; a start that is under way is waited for."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._look_every_s
        while not self._ending.wait(pause_s):
            try:
                self._look()
            except (ClusterError, OSError) as error:
                self._failures.add(error)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
            except Exception:  # noqa: BLE001 - a logged boundary of the process
                _log.exception("The watch over the embedded PostgreSQL goes on")
                pause_s = MAX_PAUSE_S
            else:
                pause_s = self._look_every_s

    def _look(self) -> None:
        if not self._is_dead():
            return
        with self._try_lock() as locked:
            # Another process may have started it meanwhile, or this one may have been asked to end.
            if not locked or self._ending.is_set() or not self._is_dead():
                return
            if not self._cluster.is_running():
                self._start()
            self._marker.unlink(missing_ok=True)
            self._failures.clear()

    def _is_dead(self) -> bool:
        if not self._cluster.exists():
            return False
        return self._cluster.has_died() or self._marker.exists() or self._failures.reason is not None

    def _start(self) -> None:
        if self._failures.reason is None:
            _log.warning("PostgreSQL in %s died; it is started again", self._cluster.directory)
            self._mark()
        self._cluster.start()
        _log.warning("PostgreSQL in %s runs again", self._cluster.directory)

    def _mark(self) -> None:
        try:
            self._marker.touch(mode=0o600)
        except OSError as error:  # on a full disk this process still knows of the death
            _log.warning("%s cannot be written: %s", self._marker, error.strerror)


class _Failures:
    """Starts that failed in a row: the first is logged, then a new reason at once and the same once a minute."""

    def __init__(self, directory: Path) -> None:
        self.reason: str | None = None
        self._directory = directory
        self._said_at = 0.0

    def add(self, error: Exception) -> None:
        if str(error) != self.reason or monotonic() - self._said_at > SAY_AGAIN_AFTER_S:
            _log.error("PostgreSQL in %s could not be started again, and is tried further: %s", self._directory, error)
            self._said_at = monotonic()
        self.reason = str(error)

    def clear(self) -> None:
        self.reason = None
