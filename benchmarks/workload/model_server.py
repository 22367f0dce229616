"""A minimal model server that speaks OpenAI's streaming protocol.

Each chunk contains the time of its sending, on a clock that all processes of a machine share.
`python -m benchmarks.workload.model_server` serves it and prints its port. A model's name encodes its script.
"""

import asyncio
import re
from random import Random
from time import perf_counter
from typing import NamedTuple, Self, cast

import orjson
import uvloop

HOST = "127.0.0.1"
FREELY_AT_ONCE = 8
TIMER_RESOLUTION_S = 0.001
"""The event loop's timers fire this much early at most. Waiting for the rest would spin."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Script(NamedTuple):
    """Chunks per second, start and duration of a model's output.

    A rate of 0 sends as fast as the client reads.
    """

    rate: float
    begins_us: int
    seconds: float

    @property
    def model(self) -> str:
        """Return the name of the model with this script."""
        return f"script-{self.rate:g}-{self.begins_us}-{self.seconds:g}"

    @classmethod
    def of(cls, model: str) -> Self:
        """Return the script of a model by its name."""
        _, rate, begins_us, seconds = model.split("-")
        return cls(float(rate), int(begins_us), float(seconds))


def now_us() -> int:
    """Return the time of the shared clock in microseconds."""
    return int(perf_counter() * 1_000_000)


class _Stamps:
    """Sending times, all different, so that each identifies a chunk."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, now_us())
        return self._last


class _Connection(asyncio.Protocol):
    """A keep-alive connection that answers one request after another."""

    def __init__(self, stamps: _Stamps, random: Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._stamps = stamps
        self._random = random
        self._received = b""
        self._freely = False
        self._writable = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._freely:
            self._send_freely()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if found and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._answer(orjson.loads(body)["model"])

    def _answer(self, model: str) -> None:
        script = Script.of(model)
        fields = b'"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"%b"' % model.encode()
        self._chunk = (
            b'data: {%b,"choices":[{"index":0,"delta":{"content":" @%%d@"},"finish_reason":null}]}\n\n' % fields
        )
        end = b'data: {%b,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n' % fields
        usage = b'"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}'
        self._end = b'%bdata: {%b,"choices":[],%b}\n\ndata: [DONE]\n\n' % (end, fields, usage)
        self._transport.write(_HEAD)
        begins = self._loop.time() + (script.begins_us - now_us()) / 1_000_000
        self._ends = begins + script.seconds
        self._freely = not script.rate
        if self._freely:
            self._timer = self._loop.call_at(begins, self._send_freely)
        else:
            self._interval_s = 1 / script.rate
            self._due = max(begins, self._loop.time()) + self._random.random() * self._interval_s
            self._timer = self._loop.call_at(self._due, self._send_due)

    def _send_due(self) -> None:
        """Send the chunks that are due and schedule the next one."""
        while self._due <= self._loop.time() + TIMER_RESOLUTION_S and self._due < self._ends:
            self._send_chunk()
            self._due += self._interval_s
        if self._due >= self._ends:
            self._finish()
        else:
            self._timer = self._loop.call_at(self._due, self._send_due)

    def _send_freely(self) -> None:
        """Send a few chunks and continue when the client has read them."""
        for _ in range(FREELY_AT_ONCE):
            self._send_chunk()
        if self._loop.time() >= self._ends:
            self._freely = False
            self._finish()
        elif self._writable:
            self._timer = self._loop.call_later(0, self._send_freely)

    def _send_chunk(self) -> None:
        self._write(self._chunk % self._stamps.next())

    def _finish(self) -> None:
        self._write(self._end)
        self._transport.write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def _serve() -> None:
    stamps, random = _Stamps(), Random(1)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(stamps, random), HOST, 0, backlog=2048)
    print(f"ready at http://{HOST}:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
