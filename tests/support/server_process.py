"""`turnlog serve` as a process of its own, as a user starts it.

with ServerProcess("--data-dir", directory, workers=2) as server:
    httpx.get(f"{server.url}/readyz")
    server.terminate()                      # SIGTERM; `server.wait()` gives the exit code
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
UNHURRIED = "tests.support.unhurried"


class ServerProcess:
    """A running server; `ready_s` is how long it took to say that it is ready.

    A test that asks no model runs the program `UNHURRIED`, which does not spend its first seconds on loading litellm.
    """

    def __init__(
        self,
        *arguments: str | Path,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
        program: str = "cli.main",
    ) -> None:
        command = [sys.executable, "-m", program, "serve", "--port", "0", "--workers", str(workers), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
        self._command = [str(word) for word in command]
        self._environment = environment | dict(settings or {})
        self.url = ""
        self.ready_s = 0.0
        self.output: list[str] = []

    def __enter__(self) -> Self:
        began = monotonic()
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        while not self.url:
            assert self.process.poll() is None, f"the server ended: {''.join(self.output)}"
            assert monotonic() - began < PATIENCE_S, "the server did not start"
            sleep(0.01)
        self.ready_s = monotonic() - began
        return self

    def terminate(self) -> None:
        """Ask the server to end, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)

    def resident_bytes(self) -> int:
        """Return how much memory the process holds now; that of its workers and of PostgreSQL does not count."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def wait(self) -> int:
        """Return the exit code once the server has ended."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.poll() is None:
            self.terminate()
            self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if ready := re.match(r"Turnlog is ready at (\S+)", line):
                self.url = ready[1]
        self.process.stdout.close()
