"""Run many serving processes on one socket, and replace those that crash.

uvicorn's own supervisor is not used: it passes a Ctrl-C on to workers that the terminal has already sent it to, and a
second one makes them exit at once.
"""

import logging
import os
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

from cli.main import end_process

if TYPE_CHECKING:
    from api.settings import Settings

ENDING_TIMEOUT_S = 5.0  # after the grace of running turns
MIN_LIFETIME_S = 1.0
CHECK_INTERVAL_S = 0.1
MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which the library of the metrics learns that several processes count together."""

_log = logging.getLogger(__name__)
_spawn = get_context("spawn")


@dataclass
class _Worker:
    process: SpawnProcess
    lifeline: Connection
    started_at: float
    ready: bool = False


class Supervisor:
    """Keep `count` workers running until SIGINT or SIGTERM."""

    def __init__(
        self,
        count: int,
        start: Callable[[Connection], SpawnProcess],
        announce: Callable[[], None],
        on_death: Callable[[int], None] = lambda pid: None,
    ) -> None:
        """`on_death` is called with the process id of a worker that has died."""
        self._count = count
        self._start = start
        self._announce = announce
        self._on_death = on_death
        self._workers: list[_Worker] = []
        self._stop_requests = 0

    def run(self, grace_s: float) -> int:
        """Run the workers, and return the exit code: 0 after an orderly end, else 1."""
        handlers = {number: signal.signal(number, self._request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._workers = [self._started() for _ in range(self._count)]
            served = self._until_ready()
            if served and not self._stop_requests:
                self._announce()
                self._keep_alive()
            return 0 if self._end_all(grace_s) and served else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1

    def _started(self) -> _Worker:
        ours, theirs = _spawn.Pipe()
        process = self._start(theirs)
        theirs.close()
        return _Worker(process, ours, monotonic())

    def _until_ready(self) -> bool:
        """Wait until every worker serves. Return False if one ended instead."""
        while not self._stop_requests and not all(worker.ready for worker in self._workers):
            self._update()
            if not all(worker.process.is_alive() for worker in self._workers):
                return bool(self._stop_requests)
        return True

    def _keep_alive(self) -> None:
        while not self._stop_requests:
            self._update()
            for index, worker in enumerate(self._workers):
                if not worker.process.is_alive() and monotonic() > worker.started_at + MIN_LIFETIME_S:
                    _log.warning("Worker %s ended (%s). Starting another.", worker.process.pid, _exit_cause(worker))
                    self._on_death(worker.process.pid or 0)
                    worker.lifeline.close()
                    self._workers[index] = self._started()

    def _update(self) -> None:
        """Wait until a worker becomes ready or ends, at most one interval."""
        starting = [worker for worker in self._workers if not worker.ready and worker.process.is_alive()]
        signalled = wait(
            [*(worker.lifeline for worker in starting), *(worker.process.sentinel for worker in self._workers)],
            CHECK_INTERVAL_S,
        )
        for worker in starting:
            worker.ready = worker.lifeline in signalled and _reports_ready(worker.lifeline)

    def _end_all(self, grace_s: float) -> bool:
        """End all workers, and return whether the first request was enough."""
        deadline = monotonic() + grace_s + ENDING_TIMEOUT_S
        sent = 0
        while alive := [worker.process for worker in self._workers if worker.process.is_alive()]:
            if monotonic() > deadline:
                for process in alive:
                    process.kill()
            while sent < max(1, self._stop_requests):
                sent += 1
                for process in alive:
                    process.terminate()
            wait([process.sentinel for process in alive], CHECK_INTERVAL_S)
        return sent == 1 and monotonic() < deadline


def run_workers(
    settings: "Settings", conninfo: str, listener: socket.socket, count: int, announce: Callable[[], None]
) -> int:
    """Serve with `count` processes until a signal ends them, and return the exit code."""

    def start(lifeline: Connection) -> SpawnProcess:
        process = _spawn.Process(target=_serve, args=(settings, conninfo, listener, lifeline), name="turnlog worker")
        process.start()
        return process

    with shared_metrics() as forget:
        return Supervisor(count, start, announce, forget).run(settings.shutdown_grace_s)


@contextmanager
def shared_metrics() -> Generator[Callable[[int], None]]:
    """Let the workers that start in this block share a directory for their metrics.

    The yielded function forgets the gauges of a worker that has died. Its counters stay.
    """
    with TemporaryDirectory(prefix="turnlog-metrics-") as directory:
        os.environ[MULTIPROCESS_DIRECTORY] = directory  # the workers inherit it

        def forget(pid: int) -> None:
            from api.telemetry.meters import forget_process

            forget_process(pid, directory)

        try:
            yield forget
        finally:
            del os.environ[MULTIPROCESS_DIRECTORY]


def _serve(settings: "Settings", conninfo: str, listener: socket.socket, lifeline: Connection) -> None:
    """Run one worker."""
    from api.telemetry.logs import configure_logs

    configure_logs(settings)
    detach_from_terminal(lifeline)
    from cli.server import run_server

    end_process(run_server(settings, conninfo, listener, lambda: lifeline.send(True)))


def detach_from_terminal(lifeline: Connection) -> None:
    """Detach a new worker from Ctrl-C, and end it when its supervisor dies."""
    os.setsid()
    Thread(target=_end_with_supervisor, args=(lifeline,), daemon=True).start()


def _end_with_supervisor(lifeline: Connection) -> None:
    lifeline.poll(None)  # the supervisor never writes, so only its death ends this wait, also by kill -9
    os.kill(os.getpid(), signal.SIGTERM)


def _reports_ready(lifeline: Connection) -> bool:
    try:
        return bool(lifeline.recv())
    except EOFError:
        return False


def _exit_cause(worker: _Worker) -> str:
    code = worker.process.exitcode
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
