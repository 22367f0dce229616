"""Restart the embedded PostgreSQL when it dies while processes use it.

A server that dies (`kill -9`, the OOM killer) leaves its pid file behind. A server that is stopped removes it, and the
watchdog leaves it stopped. An operator can therefore replace a data directory under running processes.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Thread
from time import monotonic

from postgres.cluster import Cluster
from postgres.errors import ClusterError

CHECK_INTERVAL_S = 0.5
MAX_PAUSE_S = 10.0
REPEAT_LOG_AFTER_S = 60.0

_log = logging.getLogger(__name__)


class Watchdog:
    """A thread that watches one cluster from `open` to `close`.

    `try_lock` yields whether it took the lock that keeps other processes from starting or stopping the server.
    `marker` is a file that exists from a death until the server runs again. A failed start removes the pid file, and
    the marker then still tells every process of the death.
    """

    def __init__(
        self,
        cluster: Cluster,
        marker: Path,
        try_lock: Callable[[], AbstractContextManager[bool]],
        interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self._cluster = cluster
        self._marker = marker
        self._try_lock = try_lock
        self._interval_s = interval_s
        self._ending = Event()
        self._thread = Thread(target=self._run, name="embedded PostgreSQL", daemon=True)
        self._failures = _Failures(cluster.directory)

    def open(self) -> None:
        """Start watching."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching, after a start that is under way has ended."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._interval_s
        while not self._ending.wait(pause_s):
            try:
                self._check()
            except (ClusterError, OSError) as error:
                self._failures.add(error)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)
            except Exception:  # noqa: BLE001 - a logged boundary of the process
                _log.exception("The watchdog of the embedded PostgreSQL failed and goes on")
                pause_s = MAX_PAUSE_S
            else:
                pause_s = self._interval_s

    def _check(self) -> None:
        if not self._is_dead():
            return
        with self._try_lock() as locked:
            # Another process may have started it meanwhile, or this one may be closing.
            if not locked or self._ending.is_set() or not self._is_dead():
                return
            if not self._cluster.accepts_connections():
                self._start()
            self._marker.unlink(missing_ok=True)
            self._failures.clear()

    def _is_dead(self) -> bool:
        if not self._cluster.exists():
            return False
        return self._cluster.has_died() or self._marker.exists() or self._failures.reason is not None

    def _start(self) -> None:
        if self._failures.reason is None:
            _log.warning("PostgreSQL in %s died and is being restarted", self._cluster.directory)
            self._mark()
        self._cluster.start()
        _log.warning("PostgreSQL in %s runs again", self._cluster.directory)

    def _mark(self) -> None:
        try:
            self._marker.touch(mode=0o600)
        except OSError as error:  # such as a full disk; this process still knows of the death
            _log.warning("%s cannot be written: %s", self._marker, error.strerror)


class _Failures:
    """Log failed starts in a row.

    A new reason is logged at once, the same one again once a minute.
    """

    def __init__(self, directory: Path) -> None:
        self.reason: str | None = None
        self._directory = directory
        self._logged_at = 0.0

    def add(self, error: Exception) -> None:
        if str(error) != self.reason or monotonic() - self._logged_at > REPEAT_LOG_AFTER_S:
            _log.error("PostgreSQL in %s could not be restarted, which is tried again: %s", self._directory, error)
            self._logged_at = monotonic()
        self.reason = str(error)

    def clear(self) -> None:
        self.reason = None
