"""Servers as processes of their own, the conversations in them, and requests ready to be sent."""

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
from typing import Any

import orjson

from benchmarks.load import HOST, Load, Served, post, run
from benchmarks.measure import CALLERS
from benchmarks.texts import Turn

CONVERSATIONS = 200
VARIANTS_OF_EACH = 10
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30

_ROOT = Path(__file__).parent.parent
_READY = re.compile(rb"ready at http://127\.0\.0\.1:(\d+)")


class Server:
    """A server that is ready, and a process that puts load on it."""

    def __init__(self, port: int, loader: ProcessPoolExecutor) -> None:
        self.port = port
        self._loader = loader

    def post(self, path: str, body: Any) -> Any:
        """Send one request and return its answer's JSON."""
        connection = HTTPConnection(HOST, self.port, timeout=START_TIMEOUT_S)
        try:
            connection.request("POST", path, orjson.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            if response.status >= 300:
                raise RuntimeError(f"POST {path}: {response.status} {text.decode()}")
            return orjson.loads(text)
        finally:
            connection.close()

    async def load(
        self,
        groups: Sequence[tuple[bytes, ...]],
        seconds: float,
        rate: float | None = None,
        connections: int = CALLERS,
    ) -> Served:
        """Send groups of requests on some connections: as fast as they are answered, or at a fixed rate."""
        load = Load(self.port, groups, seconds, connections, rate)
        return await asyncio.get_running_loop().run_in_executor(self._loader, partial(run, load))

    def turns(self, turns: Sequence[Turn]) -> list[tuple[bytes, bytes]]:
        """Start 200 conversations and return turns in them: the user's message, then the assistant's."""
        ids = [self.post("/v1/conversations", {})["id"] for _ in range(CONVERSATIONS)]
        return [
            (_message(id_, "user", turn.question), _message(id_, "assistant", turn.answer))
            for number, id_ in enumerate(ids)
            for turn in _some(turns, number)
        ]


@asynccontextmanager
async def serve(*command: str) -> AsyncGenerator[Server]:
    """Run a server that says "ready at <url>", warmed up by a turn of the demo model, until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=_ROOT, env=_environment(), stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as loader:
            server = Server(await asyncio.wait_for(_port(process), START_TIMEOUT_S), loader)
            # Its answer also means that the model library, which loads for seconds in the background, is there.
            await asyncio.to_thread(server.post, "/v1/turns", {"content": "Hello!", "stream": False})
            yield server
    finally:
        await _end(process)


def turnlog_serve() -> tuple[str, ...]:
    """Return the command of a server as users start it, on a temporary database of its own."""
    return str(Path(sys.executable).with_name("turnlog")), "serve", "--ephemeral", "--port", "0"


def empty_app(conninfo: str) -> tuple[str, ...]:
    """Return the command of the server that has the empty endpoint too."""
    return sys.executable, "-m", "benchmarks.empty_app", conninfo


def _environment() -> dict[str, str]:
    """Without the settings of whoever runs this, and with the model that needs no network."""
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


def _message(conversation_id: str, role: str, text: str) -> bytes:
    return post(f"/v1/conversations/{conversation_id}/messages", orjson.dumps({"role": role, "content": text}))


def _some(turns: Sequence[Turn], number: int) -> list[Turn]:
    first = number * VARIANTS_OF_EACH
    return [turns[(first + offset) % len(turns)] for offset in range(VARIANTS_OF_EACH)]
