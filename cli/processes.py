"""Many serving processes on one socket: started, replaced when they crash, ended together.

uvicorn's own supervisor passes a Ctrl-C on that its workers have had from the terminal already: a second one.
"""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from threading import Thread
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from api.settings import Settings

ENDING_TIMEOUT_S = 5.0  # beyond the grace of running turns
RESTART_PAUSE_S = 1.0
LOOK_EVERY_S = 0.1

_spawn = get_context("spawn")


@dataclass
class _Worker:
    process: SpawnProcess
    lifeline: Connection
    started_at: float
    ready: bool = False


class Supervisor:
    """Keeps `count` workers alive until a signal asks to end."""

    def __init__(self, count: int, start: Callable[[Connection], SpawnProcess], announce: Callable[[], None]) -> None:
        self._count = count
        self._start = start
        self._announce = announce
        self._workers: list[_Worker] = []
        self._times_asked_to_end = 0

    def run(self, grace_s: float) -> int:
        """Returns the exit code: 0 after an orderly end, else 1."""
        handlers = {number: signal.signal(number, self._ask_to_end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._workers = [self._started() for _ in range(self._count)]
            served = self._until_ready()
            if served and not self._times_asked_to_end:
                self._announce()
                self._keep_alive()
            return 0 if self._end_all(grace_s) and served else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _ask_to_end(self, _number: int, _frame: FrameType | None) -> None:
        self._times_asked_to_end += 1

    def _started(self) -> _Worker:
        ours, theirs = _spawn.Pipe()
        process = self._start(theirs)
        theirs.close()
        return _Worker(process, ours, monotonic())

    def _until_ready(self) -> bool:
        """Waits for every worker to serve. Returns False when one ended instead."""
        while not self._times_asked_to_end and not all(worker.ready for worker in self._workers):
            self._look()
            if not all(worker.process.is_alive() for worker in self._workers):
                return bool(self._times_asked_to_end)
        return True

    def _keep_alive(self) -> None:
        while not self._times_asked_to_end:
            self._look()
            for index, worker in enumerate(self._workers):
                if not worker.process.is_alive() and monotonic() > worker.started_at + RESTART_PAUSE_S:
                    click.echo(f"Worker {worker.process.pid} ended ({_how(worker)}); starting another.", err=True)
                    worker.lifeline.close()
                    self._workers[index] = self._started()

    def _look(self) -> None:
        """Waits a moment, or until a worker becomes ready or ends."""
        quiet = [worker for worker in self._workers if not worker.ready and worker.process.is_alive()]
        told = wait(
            [*(worker.lifeline for worker in quiet), *(worker.process.sentinel for worker in self._workers)],
            LOOK_EVERY_S,
        )
        for worker in quiet:
            worker.ready = worker.lifeline in told and _says_ready(worker.lifeline)

    def _end_all(self, grace_s: float) -> bool:
        """Returns whether all ended by themselves."""
        deadline = monotonic() + grace_s + ENDING_TIMEOUT_S
        asked = 0
        while alive := [worker.process for worker in self._workers if worker.process.is_alive()]:
            if monotonic() > deadline:
                for process in alive:
                    process.kill()
            while asked < max(1, self._times_asked_to_end):
                asked += 1
                for process in alive:
                    process.terminate()
            wait([process.sentinel for process in alive], LOOK_EVERY_S)
        return asked == 1 and monotonic() < deadline


def run_workers(
    settings: "Settings", conninfo: str, listener: socket.socket, count: int, announce: Callable[[], None]
) -> int:
    """Serve with so many processes until a signal says to end. Returns the exit code."""

    def start(lifeline: Connection) -> SpawnProcess:
        process = _spawn.Process(target=_serve, args=(settings, conninfo, listener, lifeline), name="turnlog worker")
        process.start()
        return process

    return Supervisor(count, start, announce).run(settings.shutdown_grace_s)


def _serve(settings: "Settings", conninfo: str, listener: socket.socket, lifeline: Connection) -> None:
    """The life of a worker."""
    detach_from_terminal(lifeline)
    from cli.server import run_server

    raise SystemExit(run_server(settings, conninfo, listener, lambda: lifeline.send(True)))


def detach_from_terminal(lifeline: Connection) -> None:
    """Makes a new worker hear from its supervisor alone: a Ctrl-C does not reach it, and it ends when that one dies."""
    os.setsid()
    Thread(target=_end_with_supervisor, args=(lifeline,), daemon=True).start()


def _end_with_supervisor(lifeline: Connection) -> None:
    """The supervisor never writes: what ends this wait is its death, by kill -9 too."""
    lifeline.poll(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _says_ready(lifeline: Connection) -> bool:
    try:
        return bool(lifeline.recv())
    except EOFError:
        return False


def _how(worker: _Worker) -> str:
    code = worker.process.exitcode
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
