"""Readers of many streams that record arrival times.

They are meant to run in a separate process. Nothing is parsed before the last stream has ended, so that reading takes
little processor time during the measurement.
"""

import asyncio
import re
from array import array
from collections.abc import Sequence
from typing import NamedTuple, cast

import uvloop

from benchmarks.workload.load import HOST, LoadError
from benchmarks.workload.model_server import now_us

GRACE_S = 120.0

_FRAME = re.compile(rb"(?:id: (\d+)\n)?event: ([a-z.]+)\ndata: (?:[^@\n]*@(\d+)@)?")


class Reading(NamedTuple):
    """Requests to send at once, each on its own connection and with a stream.

    At `leave_us` of the shared clock the readers leave. With None they stay to the end.
    """

    port: int
    requests: Sequence[bytes]
    leave_us: int | None = None


class Stream(NamedTuple):
    """The times of one stream in microseconds of the shared clock.

    `sent_us` and `arrived_us` have an element for each chunk of the model. `frames` counts all frames.
    """

    asked_us: int
    first_us: int
    ended_us: int
    frames: int
    sent_us: "array[int]"
    arrived_us: "array[int]"


def get(path: str) -> bytes:
    """Return the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()


def read(reading: Reading) -> list[Stream]:
    """Read all streams.

    Raises:
        LoadError: an answer was not a success, broke off, failed, or its frame numbers have a gap.
    """
    return uvloop.run(_read(reading))


async def _read(reading: Reading) -> list[Stream]:
    loop = asyncio.get_running_loop()
    connections = [_Connection(request) for request in reading.requests]
    for connection in connections:
        await loop.create_connection(lambda chosen=connection: chosen, HOST, reading.port)
    for connection in connections:
        connection.ask()
    if reading.leave_us is not None:
        await asyncio.sleep((reading.leave_us - now_us()) / 1_000_000)
        for connection in connections:
            connection.leave()
    async with asyncio.timeout(GRACE_S):
        await asyncio.gather(*(connection.ended for connection in connections))
    return [connection.stream() for connection in connections]


class _Connection(asyncio.Protocol):
    """One request and the pieces of its answer."""

    def __init__(self, request: bytes) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._asked_us = 0
        self._pieces: list[tuple[int, bytes]] = []
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            received = b"".join(data for _, data in self._pieces)
            self.ended.set_exception(LoadError(f"a stream broke off: {exc} {received[:500]!r}"))

    def ask(self) -> None:
        """Send the request."""
        self._asked_us = now_us()
        self._transport.write(self._request)

    def leave(self) -> None:
        """Stop reading and close the connection."""
        if not self.ended.done():
            self.ended.set_result(None)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if not self._pieces and data[9:12] != b"200":
            self.ended.set_exception(LoadError(data[:500].decode(errors="replace")))
        self._pieces.append((now_us(), data))
        self._last = (self._last + data)[-5:]
        if self._last == b"0\r\n\r\n":
            self.leave()

    def stream(self) -> Stream:
        """Return the times of the received stream."""
        sent, arrived = array("q"), array("q")
        first_us, frames, rest = 0, 0, b""
        for at_us, data in self._pieces:
            whole, _, rest = (rest + data).rpartition(b"\n\n")
            for frame in _FRAME.finditer(whole):
                frames += 1
                first_us = first_us or at_us
                _check(frames, frame[1], frame[2])
                if frame[2] == b"delta" and frame[3]:
                    sent.append(int(frame[3]))
                    arrived.append(at_us)
        ended_us = self._pieces[-1][0] if self._pieces else self._asked_us
        return Stream(self._asked_us, first_us, ended_us, frames, sent, arrived)


def _check(expected: int, number: bytes | None, event: bytes) -> None:
    if number is not None and int(number) != expected:
        raise LoadError(f"frame {expected} has the number {int(number)}")
    if event == b"turn.failed":
        raise LoadError("a turn failed")
