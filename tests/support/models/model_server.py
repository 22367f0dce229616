"""A scripted OpenAI-compatible model server on loopback, with real HTTP.

    with ModelServer() as server:
        server.script("gpt-x", Script(["Hel", Pause(0.02), "lo"]))
        gateway = ModelGateway(api_base=server.url, ...)
        ...                                                     # run a turn with the model "gpt-x"
        (request,) = server.requests
        assert request.body["messages"][-1] == {"role": "user", "content": "Hi"}
        assert not request.gave_up

A model answers with its scripts in order and repeats the last one. A model without a script is a 404.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, Self

from tests.support.models.model_scripts import (
    UNKNOWN_MODEL,
    BreakOff,
    Hang,
    Pause,
    Raw,
    Reasoning,
    Refusal,
    Script,
    Step,
    ToolFragment,
    Wire,
)

ANY_MODEL = "*"
"""The model name whose script is used for models without their own."""

HANG_S = 60
"""The longest time to wait for an event."""


class ReceivedRequest:
    """One received request, and whether its client left."""

    def __init__(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        """Keep the request, whose `headers` have lower-case names."""
        self.path, self.headers, self.body = path, headers, body
        self.client_port = 0
        self.model = str(body.get("model"))
        self.given_up = threading.Event()

    @property
    def gave_up(self) -> bool:
        """Return whether the client closed the connection before the answer's end."""
        return self.given_up.is_set()

    async def wait_until_given_up(self, timeout_s: float = HANG_S) -> bool:
        """Wait until the client left early, and return False on a timeout.

        The caller's event loop is not blocked.
        """
        return await asyncio.to_thread(self.given_up.wait, timeout_s)


class ModelServer:
    """The server as a context manager, run in its own thread.

    Any test and any process can use it.
    """

    def __init__(self) -> None:
        """Create a server that listens once the context is entered."""
        self.requests: list[ReceivedRequest] = []
        self.open_connections = 0
        self.url = ""
        self._scripts: defaultdict[str, list[Script | Refusal]] = defaultdict(list)
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)

    def script(self, model: str, *answers: Script | Refusal) -> None:
        """Set the answers of `model`: each in order, then the last one repeatedly."""
        self._scripts[model] = list(answers)

    async def wait_until_all_left(self, timeout_s: float = HANG_S) -> bool:
        """Wait until no connection is open, and return False on a timeout."""

        def wait() -> bool:
            with self._arrived:
                return self._arrived.wait_for(lambda: self.open_connections == 0, timeout_s)

        return await asyncio.to_thread(wait)

    async def wait_for_requests(self, count: int, timeout_s: float = HANG_S) -> bool:
        """Wait for `count` requests, and return False on a timeout.

        The caller's event loop is not blocked.
        """

        def wait() -> bool:
            with self._arrived:
                return self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s)

        return await asyncio.to_thread(wait)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        async with server:
            self.url = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
            self._listening.set()
            await self._stop.wait()
            # Before the server closes: asyncio leaves a connection open that it accepts for a closed server.
            await self._break_off_all()

    async def _break_off_all(self) -> None:
        """End the connections that are open, and those that are just being accepted."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task, writer in list(self._serving.items()):
                task.cancel()
                writer.transport.abort()
            await asyncio.wait(others)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._counted(), suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._serve_one(reader, writer):
                pass
        writer.close()

    @contextmanager
    def _counted(self) -> Generator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._arrived:
            self.open_connections += more
            self._arrived.notify_all()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request and return whether the connection can take another."""
        request = await _read_request(reader)
        request.client_port = writer.get_extra_info("peername")[1]
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        script = self._next_answer(request.model)
        answer = asyncio.ensure_future(_answer(script, request, writer))
        client_left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answer, client_left}, return_when=asyncio.FIRST_COMPLETED)
            answered = answer.done() and answer.exception() is None
            if not answer.done() or isinstance(answer.exception(), ConnectionError):
                request.given_up.set()
        finally:
            # Also where the server ends first: an answer that hangs would keep it from ending.
            answer.cancel()
            client_left.cancel()
            await asyncio.gather(answer, client_left, return_exceptions=True)
        return answered and isinstance(script, Script) and script.keep_alive

    def _next_answer(self, model: str) -> Script | Refusal:
        scripts = self._scripts[model] or self._scripts[ANY_MODEL] or [UNKNOWN_MODEL]
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]


async def _read_request(reader: asyncio.StreamReader) -> ReceivedRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    path = head.split(" ", 2)[1].partition("?")[0]
    pairs = (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(path, headers, json.loads(body))


async def _answer(answer: Script | Refusal, request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    if isinstance(answer, Refusal):
        writer.write(_refusal(answer))
        await writer.drain()
    else:
        await _Stream(writer, request, answer).play()


def _refusal(refusal: Refusal) -> bytes:
    error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": refusal.code}
    body = json.dumps({"error": error}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    return _head(refusal.status, headers) + body


def _head(status: int, headers: Mapping[str, str], *, keep_alive: bool = False) -> bytes:
    connection = "keep-alive" if keep_alive else "close"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Connection: {connection}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]).encode()


class _BrokenOffError(Exception):
    """Raised when the script, not the client, closed the connection."""


class _Stream:
    """One answer that is being sent as chunked SSE."""

    def __init__(self, writer: asyncio.StreamWriter, request: ReceivedRequest, script: Script) -> None:
        self._writer = writer
        self._script = script
        self._model = request.model
        self._wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
        self._begun = False

    async def play(self) -> None:
        script = self._script
        for step in script.chunks:
            await asyncio.sleep(script.delay_s)
            await self._step(step)
        if script.finish_reason is not None:
            await self._choice({}, script.finish_reason)
        if script.usage is not None and self._wants_usage:
            await self._chunk({"choices": [], "usage": script.usage})
        if script.done:
            await self._data("[DONE]")
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _step(self, step: Step) -> None:
        match step:
            case str():
                await self._choice({"content": step})
            case Reasoning():
                await self._choice({"reasoning_content": step.text})
            case ToolFragment():
                await self._choice({"tool_calls": [_tool_delta(step)]})
            case Raw():
                await self._data(step.data)
            case Wire():
                await self._wire(step.data)
            case Pause():
                await asyncio.sleep(step.seconds)
            case Hang():
                await asyncio.Event().wait()
            case BreakOff():
                if step.reset:
                    connection: socket.socket = self._writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
                raise _BrokenOffError

    async def _choice(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        role = {} if self._begun else {"role": "assistant"}
        await self._chunk({"choices": [{"index": 0, "delta": role | delta, "finish_reason": finish_reason}]})

    async def _chunk(self, fields: dict[str, Any]) -> None:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self._model}
        await self._data(json.dumps(chunk | fields))

    async def _data(self, data: str) -> None:
        await self._wire(f"data: {data}\n\n".encode())

    async def _wire(self, data: bytes) -> None:
        if not self._begun:
            headers = {"Content-Type": self._script.media_type, "Transfer-Encoding": "chunked"}
            self._writer.write(_head(200, headers, keep_alive=self._script.keep_alive))
            self._begun = True
        if data:  # an empty piece would end the answer
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()


def _tool_delta(fragment: ToolFragment) -> dict[str, Any]:
    function: dict[str, str] = {"arguments": fragment.arguments}
    if fragment.name is not None:
        function["name"] = fragment.name
    opening = {} if fragment.id is None else {"id": fragment.id, "type": "function"}
    return {"index": fragment.index, "function": function, **opening}
