"""`turnlog serve` as a separate process, as a user starts it.

with ServerProcess("--data-dir", directory, workers=2) as server:
    httpx.get(f"{server.url}/readyz")
    server.terminate()                      # SIGTERM; `server.wait()` gives the exit code
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]
UNHURRIED = "tests.support.servers.unhurried"
NO_MODEL_LIBRARY = Path(__file__).parent / "no_model_library"
LOADING = "the model library loads"
"""The line that a process without a model library prints when it begins to load it."""


class ServerProcess:
    """A running server.

    Without `model_library` it calls no model and saves the seconds of CPU that loading the library takes. The stand-in
    loads as long as the server runs.
    """

    def __init__(
        self,
        *arguments: str | Path,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
        program: str = "cli.main",
        model_library: bool = True,
    ) -> None:
        command = [sys.executable, "-m", program, "serve", "--port", "0", "--workers", str(workers), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
        self._command = [str(word) for word in command]
        if not model_library:
            environment["PYTHONPATH"] = str(NO_MODEL_LIBRARY)
        self._environment = environment | dict(settings or {})
        self.url = ""
        self.output: list[str] = []

    def __enter__(self) -> Self:
        self.begin()
        try:
            self.wait_until_ready()
        except BaseException:
            self.process.kill()
            self.wait()
            raise
        return self

    def begin(self) -> None:
        """Start the server without waiting for it."""
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Wait until the server has printed that it is ready."""
        deadline = monotonic() + PATIENCE_S
        while not self.url:
            assert self.process.poll() is None, f"the server ended: {''.join(self.output)}"
            assert monotonic() < deadline, f"the server did not start: {''.join(self.output)}"
            sleep(0.01)

    def terminate(self) -> None:
        """Send SIGTERM to the server, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)

    def cpu_s(self) -> float:
        """Return the processor time of the process so far, without its children."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the resident memory of the process.

        The memory of its workers and of PostgreSQL is not included.
        """
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


@contextmanager
def together(*servers: ServerProcess) -> Generator[None]:
    """Start servers at the same time, and end them at the same time."""
    with ExitStack() as stack:
        for server in servers:
            server.begin()
            stack.push(server)
        for server in servers:
            server.wait_until_ready()
        try:
            yield
        finally:
            for server in servers:
                if server.process.poll() is None:
                    server.terminate()
