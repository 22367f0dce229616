"""A small HTTP/1.1 load generator on keep-alive connections.

It is meant to run in a separate process. In a closed loop each connection sends its next request when it has the
answer to the last. In an open loop requests are due at a fixed rate, independent of the server. They wait for a free
connection, and their time counts from the moment they were due. The loop's clock ticks in milliseconds, which is the
error of the figure.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, cycle
from random import Random
from time import perf_counter
from typing import NamedTuple, cast

import uvloop

HOST = "127.0.0.1"
TICK_S = 0.001
GRACE_S = 30.0


class LoadError(Exception):
    """Raised for an unexpected answer."""


class Load(NamedTuple):
    """Groups of prepared requests, and how to send them.

    A connection sends a whole group, then takes another at random. A `rate` in requests per second makes the loop open,
    and None makes it closed.
    """

    port: int
    groups: Sequence[tuple[bytes, ...]]
    seconds: float
    connections: int
    rate: float | None = None


class Served(NamedTuple):
    """Number of answers, answers per second, and the time of one in milliseconds."""

    answers: int
    per_second: float
    p50_ms: float
    p99_ms: float


def post(path: str, body: bytes, bearer: str | None = None) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    return _head("POST", path, bearer, "content-type: application/json", f"content-length: {len(body)}") + body


def get(path: str, bearer: str | None = None) -> bytes:
    """Return the bytes of a GET request."""
    return _head("GET", path, bearer)


def run(load: Load) -> Served:
    """Send the load and return how it was served.

    Raises:
        LoadError: an answer was not a success, or named a projection that is behind.
    """
    return uvloop.run(_Driver(load).run())


class _Driver:
    """Driver that gives requests to connections and records the times."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._times: list[float] = []
        self._due: deque[float] = deque()
        self._idle: list[_Connection] = []
        self._error: LoadError | None = None
        self._start = self._end = 0.0

    async def run(self) -> Served:
        loop = asyncio.get_running_loop()
        connections = [self._connection(number) for number in range(self._load.connections)]
        for connection in connections:
            await loop.create_connection(lambda chosen=connection: chosen, HOST, self._load.port)
        self._start = perf_counter()
        self._end = self._start + self._load.seconds
        self._idle = list(connections)
        if self._load.rate is not None:
            await self._pace(self._load.rate)
        self._dispatch()
        async with asyncio.timeout(self._load.seconds + GRACE_S):
            await asyncio.gather(*(connection.ended for connection in connections))
        if self._error:
            raise self._error
        return self._served(perf_counter() - self._start)

    def free(self, connection: "_Connection") -> None:
        """Take back an idle connection."""
        self._idle.append(connection)
        self._dispatch()

    def answered(self, seconds: float) -> None:
        """Record the time of one answer."""
        self._times.append(seconds)

    def failed(self, reason: str) -> None:
        """Make the run end with an error."""
        self._error = self._error or LoadError(reason)

    def _connection(self, number: int) -> "_Connection":
        random = Random(number)
        groups = self._load.groups
        picked = (groups[random.randrange(len(groups))] for _ in cycle([None]))
        return _Connection(self, chain.from_iterable(picked))

    async def _pace(self, rate: float) -> None:
        made = 0
        while (now := perf_counter()) < self._end:
            wanted = int((now - self._start) * rate)
            self._due.extend(self._start + number / rate for number in range(made, wanted))
            made = wanted
            self._dispatch()
            await asyncio.sleep(TICK_S)

    def _dispatch(self) -> None:
        now = perf_counter()
        paced = self._load.rate is not None
        while self._idle and (self._due or not paced or now >= self._end):
            connection = self._idle.pop()
            if self._error or (now >= self._end and not self._due):
                connection.close()
            else:
                connection.send(self._due.popleft() if paced else now)

    def _served(self, seconds: float) -> Served:
        times = sorted(self._times)
        if not times:
            raise LoadError("there was no answer")
        p50, p99 = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99))
        return Served(len(times), len(times) / seconds, p50, p99)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one pending request."""

    def __init__(self, driver: _Driver, requests: Iterator[bytes]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._driver = driver
        self._requests = requests
        self._received = b""
        self._since = 0.0
        self._closing = False

    def send(self, since: float) -> None:
        """Send the next request, whose time counts from `since`."""
        self._since = since
        self._transport.write(next(self._requests))

    def close(self) -> None:
        """Close the connection without an error."""
        self._closing = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._driver.failed(f"the server closed a connection: {exc}")
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        if head[9:10] != b"2" or b"turnlog-behind" in head.lower():
            self._driver.failed(self._received[:500].decode(errors="replace"))
        self._received = b""
        self._driver.answered(perf_counter() - self._since)
        self._driver.free(self)


def _head(method: str, path: str, bearer: str | None, *fields: str) -> bytes:
    credentials = [] if bearer is None else [f"authorization: Bearer {bearer}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {HOST}", *credentials, *fields, "", ""]).encode()


def _content_length(head: bytes) -> int:
    fields = head.lower()
    start = fields.find(b"content-length:")
    return int(fields[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
