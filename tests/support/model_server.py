"""A scripted OpenAI-compatible model server on loopback: real HTTP, real sockets, no model.

    with ModelServer() as server:
        server.script("gpt-x", Script(["Hel", Pause(0.02), "lo"]))
        gateway = ModelGateway(api_base=server.url, ...)
        ...                                                     # run a turn with the model "gpt-x"
        (request,) = server.requests
        assert request.body["messages"][-1] == {"role": "user", "content": "Hi"}
        assert not request.gave_up

A model answers its scripts in turn and goes on with the last one; a model without a script is a 404. A script can hold:

    Script(["a", "b"], delay_s=0.03)                            # a pause before each chunk
    Script([Reasoning("Hm"), "Yes"], usage=None)                # reasoning; a provider that sends no usage
    Script([ToolFragment(0, "call_1", "add", '{"a":'), ToolFragment(0, arguments="1}")], finish_reason="tool_calls")
    Script(["a", Hang()])   Script(["a", BreakOff()])           # goes silent; closes the socket
    Script(["a"], finish_reason=None)                           # ends without a finish
    Script(["a", Raw("{not json")])                             # any line of data
    Script([Wire(b""), Hang()])                                 # any bytes of the body; none at all: only the headers
    Refusal(429, "rate_limit_exceeded", headers={"Retry-After": "1"})   # any HTTP error; some are named below

The status line goes out with the first step that sends anything, as a real server's does: `Script([Hang()])` hangs
before it. `BreakOff(reset=True)` resets the connection where a closed one would be an ordinary end.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple, Self


class Reasoning(NamedTuple):
    """A chunk of reasoning, sent as `reasoning_content`."""

    text: str


@dataclass(frozen=True)
class ToolFragment:
    """A piece of a tool call; the first of a call carries its id and name."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Raw(NamedTuple):
    """One `data:` line as it stands, broken JSON included."""

    data: str


class Wire(NamedTuple):
    """Bytes of the body as they stand, in as few pieces as the network makes of them."""

    data: bytes


class Pause(NamedTuple):
    """Silence for a while."""

    seconds: float


class Hang(NamedTuple):
    """Silence until the client leaves or the server stops."""


class BreakOff(NamedTuple):
    """The socket is closed at once, in the middle of the answer, or its connection reset."""

    reset: bool = False


Step = str | Reasoning | ToolFragment | Raw | Wire | Pause | Hang | BreakOff


def usage(input_tokens: int, output_tokens: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """A usage block in OpenAI's words."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


USAGE = usage(11, 7)


@dataclass(frozen=True)
class Script:
    """One streamed answer: its steps in order, then its finish, then its usage (where the request asks for it)."""

    chunks: Sequence[Step] = ("Hello", " there")
    delay_s: float = 0.0
    finish_reason: str | None = "stop"
    usage: Mapping[str, Any] | None = field(default_factory=lambda: USAGE)


@dataclass(frozen=True)
class Refusal:
    """An HTTP error in OpenAI's shape, instead of a stream."""

    status: int
    code: str
    message: str = "The request was refused."
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


CONTEXT_TOO_LONG = Refusal(
    400, "context_length_exceeded", "This model's maximum context length is 8192 tokens, your messages have 9001."
)
CONTENT_FILTERED = Refusal(400, "content_policy_violation", "Your request was rejected by our safety system.")
BAD_REQUEST = Refusal(400, "invalid_value", "Invalid value for 'messages'.")
BAD_KEY = Refusal(401, "invalid_api_key", "Incorrect API key provided.")
UNKNOWN_MODEL = Refusal(404, "model_not_found", "The model does not exist.")
RATE_LIMITED = Refusal(429, "rate_limit_exceeded", "Rate limit reached.", {"Retry-After": "0"})
SERVER_ERROR = Refusal(500, "server_error", "The server had an error.")
OVERLOADED = Refusal(503, "overloaded", "The engine is overloaded.")


class ReceivedRequest:
    """One request as the server got it, and what became of the client."""

    def __init__(self, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        """`headers` have lower-case names."""
        self.headers, self.body = headers, body
        self.model = str(body.get("model"))
        self.given_up = threading.Event()

    @property
    def gave_up(self) -> bool:
        """Whether the client closed the connection before the answer's end."""
        return self.given_up.is_set()

    async def wait_until_given_up(self, timeout_s: float) -> bool:
        """Wait, without blocking the caller's event loop, until the client left early; False when the time is over."""
        return await asyncio.to_thread(self.given_up.wait, timeout_s)


class ModelServer:
    """The server as a context manager; it runs in a thread of its own, so any test and any process can use it."""

    def __init__(self) -> None:
        """The server listens once entered."""
        self.requests: list[ReceivedRequest] = []
        self.url = ""
        self._scripts: defaultdict[str, list[Script | Refusal]] = defaultdict(list)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)

    def script(self, model: str, *answers: Script | Refusal) -> None:
        """Set what `model` answers from now on: each in turn, the last one for good."""
        self._scripts[model] = list(answers)

    async def wait_for_requests(self, count: int, timeout_s: float) -> bool:
        """Wait, without blocking the caller's event loop, for `count` requests; False when the time is over."""

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
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.url = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
            self._listening.set()
            await self._stop.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read_request(reader)
            with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            answer = asyncio.ensure_future(_answer(self._next_answer(request.model), request, writer))
            client_left = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answer, client_left}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or isinstance(answer.exception(), ConnectionError):
                request.given_up.set()
            for task in (answer, client_left):
                task.cancel()
            await asyncio.gather(answer, client_left, return_exceptions=True)
        writer.close()

    def _next_answer(self, model: str) -> Script | Refusal:
        scripts = self._scripts[model] or [UNKNOWN_MODEL]
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]


async def _read_request(reader: asyncio.StreamReader) -> ReceivedRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    pairs = (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(headers, json.loads(body))


async def _answer(answer: Script | Refusal, request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    if isinstance(answer, Refusal):
        writer.write(_refusal(answer))
        await writer.drain()
    else:
        await _Stream(writer, request).play(answer)


def _refusal(refusal: Refusal) -> bytes:
    error = {"message": refusal.message, "type": "invalid_request_error", "param": None, "code": refusal.code}
    body = json.dumps({"error": error}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    return _head(refusal.status, headers) + body


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Connection: close"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]).encode()


class _BrokenOffError(Exception):
    """The script closed the connection, not the client."""


class _Stream:
    """One answer on its way out, as chunked SSE."""

    def __init__(self, writer: asyncio.StreamWriter, request: ReceivedRequest) -> None:
        self._writer = writer
        self._model = request.model
        self._wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
        self._begun = False

    async def play(self, script: Script) -> None:
        for step in script.chunks:
            await asyncio.sleep(script.delay_s)
            await self._step(step)
        if script.finish_reason is not None:
            await self._choice({}, script.finish_reason)
        if script.usage is not None and self._wants_usage:
            await self._chunk({"choices": [], "usage": script.usage})
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
            self._writer.write(_head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
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
