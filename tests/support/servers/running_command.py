"""A command that runs until it is interrupted, and what it has printed so far.

with RunningCommand(["turnlog", "log", "tail", "--follow"]) as running:
    eventually(lambda: running.lines)
    assert running.interrupt() == 0
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from threading import Thread
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE_S


class RunningCommand:
    """A command whose stdout and stderr are pipes."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.errors = ""
        """Everything on stderr, once the command has ended."""
        self._written = b""
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(environment), start_new_session=True
        )
        self._threads = [Thread(target=self._read_output, daemon=True), Thread(target=self._read_errors, daemon=True)]
        for thread in self._threads:
            thread.start()

    @property
    def output(self) -> str:
        """Everything on stdout so far."""
        return self._written.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """The complete lines on stdout so far."""
        return self.output.split("\n")[:-1]

    def interrupt(self) -> int:
        """Send what Ctrl-C sends, and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the command, and return its exit code."""
        code = self._process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            while some := os.read(stdout.fileno(), 65536):
                self._written += some

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            self.errors = stderr.read().decode()
