"""Server processes, their conversations, and prepared requests."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from benchmarks.measure import CALLERS
from benchmarks.workload.load import HOST, Load, Served, post, run
from benchmarks.workload.stream_load import Reading, Stream, read
from benchmarks.workload.texts import Turn

CONVERSATIONS = 200
VARIANTS_OF_EACH = 10
START_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 600
STOP_TIMEOUT_S = 30

_ROOT = Path(__file__).parents[2]
_READY = re.compile(rb"ready at http://127\.0\.0\.1:(\d+)")


class Process(NamedTuple):
    """A server process that is ready."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"http://{HOST}:{self.port}"

    def cpu_s(self) -> float:
        """Return the processor time used so far, without that of child processes."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """A server that is ready, and a process that generates its load."""

    def __init__(self, process: Process, loader: ProcessPoolExecutor, bearer: str | None = None) -> None:
        """`bearer` authenticates the requests of this class."""
        self.process = process
        self.port = process.port
        self._loader = loader
        self._bearer = bearer

    def post(self, path: str, body: Any) -> Any:
        """Send one request and return the JSON of its answer."""
        return self._answer("POST", path, orjson.dumps(body), {"content-type": "application/json"})

    def get(self, path: str) -> Any:
        """Return the JSON of a resource."""
        return self._answer("GET", path, None, {})

    def delete(self, path: str) -> Any:
        """Delete a resource and return the JSON of the answer."""
        return self._answer("DELETE", path, None, {})

    async def load(
        self,
        groups: Sequence[tuple[bytes, ...]],
        seconds: float,
        rate: float | None = None,
        connections: int = CALLERS,
    ) -> Served:
        """Send groups of requests as fast as possible, or at a fixed rate."""
        load = Load(self.port, groups, seconds, connections, rate)
        return await asyncio.get_running_loop().run_in_executor(self._loader, partial(run, load))

    async def read(self, requests: Sequence[bytes], leave_us: int | None = None) -> list[Stream]:
        """Send requests at once and read their streams.

        Read to the end, or until `leave_us`.
        """
        reading = Reading(self.port, requests, leave_us)
        return await asyncio.get_running_loop().run_in_executor(self._loader, read, reading)

    def turns(self, turns: Sequence[Turn]) -> list[tuple[bytes, bytes]]:
        """Start 200 conversations and return turns in them.

        A turn is the request of a user's message, then that of an assistant's.
        """
        ids = [self.post("/v1/conversations", {})["id"] for _ in range(CONVERSATIONS)]
        return [
            (self._message(id_, "user", turn.question), self._message(id_, "assistant", turn.answer))
            for number, id_ in enumerate(ids)
            for turn in _some(turns, number)
        ]

    def _message(self, conversation_id: str, role: str, text: str) -> bytes:
        body = orjson.dumps({"role": role, "content": text})
        return post(f"/v1/conversations/{conversation_id}/messages", body, self._bearer)

    def _answer(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        if self._bearer is not None:
            headers = {**headers, "authorization": f"Bearer {self._bearer}"}
        connection = HTTPConnection(HOST, self.port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {text.decode()}")
            return orjson.loads(text)
        finally:
            connection.close()


@asynccontextmanager
async def launch(*command: str, **settings: str) -> AsyncGenerator[Process]:
    """Run a server that prints "ready at <url>" until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=_ROOT, env=_environment() | settings, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        yield Process(process.pid, await asyncio.wait_for(_port(process), START_TIMEOUT_S))
    finally:
        await _end(process)


@asynccontextmanager
async def loaded(*command: str, bearer: str | None = None, **settings: str) -> AsyncGenerator[Server]:
    """Run such a server and a process that generates its load."""
    async with launch(*command, **settings) as process:
        with ProcessPoolExecutor(1, get_context("spawn")) as loader:
            yield Server(process, loader, bearer)


@asynccontextmanager
async def serve(*command: str, bearer: str | None = None, **settings: str) -> AsyncGenerator[Server]:
    """Run Turnlog and warm it up with a turn of the demo model."""
    async with loaded(*command, bearer=bearer, **settings) as server:
        # Its answer also shows that the model library, which takes seconds to load in the background, is loaded.
        await asyncio.to_thread(server.post, "/v1/turns", {"content": "Hello!", "stream": False})
        yield server


def turnlog_serve(conninfo: str | None = None) -> tuple[str, ...]:
    """Return the command of `turnlog serve` on a database or a temporary one."""
    database = ("--database-url", conninfo) if conninfo else ("--ephemeral",)
    return turnlog(), "serve", *database, "--port", "0"


def turnlog() -> str:
    """Return the path of the command."""
    return str(Path(sys.executable).with_name("turnlog"))


def model_server() -> tuple[str, ...]:
    """Return the command of the scripted model server."""
    return sys.executable, "-m", "benchmarks.workload.model_server"


def passthrough_app(model_url: str) -> tuple[str, ...]:
    """Return the command of the passthrough server."""
    return sys.executable, "-m", "benchmarks.baselines.passthrough_app", model_url


def empty_app(conninfo: str) -> tuple[str, ...]:
    """Return the command of the server with the empty endpoint."""
    return sys.executable, "-m", "benchmarks.baselines.empty_app", conninfo


def _environment() -> dict[str, str]:
    """Return the environment with default settings and the demo model."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
    return {**kept, "TURNLOG_MODEL": "turnlog/demo", "PYTHONUNBUFFERED": "1"}


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    async for line in process.stdout:
        if found := _READY.search(line):
            return int(found[1])
    raise RuntimeError("the server ended before it was ready")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.communicate(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _some(turns: Sequence[Turn], number: int) -> list[Turn]:
    first = number * VARIANTS_OF_EACH
    return [turns[(first + offset) % len(turns)] for offset in range(VARIANTS_OF_EACH)]
