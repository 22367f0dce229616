"""Watch the connections of clients in front of uvicorn.

Malformed requests are refused, and incomplete ones cut off. uvicorn takes a protocol class and hands it the bytes of a
connection (https://www.uvicorn.org/settings/, `--http`). This one reads the outline of each request, which costs a few
microseconds, and passes the bytes on to the protocol of uvicorn unchanged.
"""

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.problems import REQUEST_TIMEOUT, ProblemError, problem_response
from cli.request_parser import RequestParser

LINGER_S = 2.0


class Limits(NamedTuple):
    """The time to send a whole request, and the idle time between requests.

    A client whose time is up gets an answer, unless it has sent nothing for `stalled_s`.
    """

    request_s: float = 30.0
    idle_s: float = 120.0  # longer than pools keep theirs: httpx 5 s, aiohttp 15, nginx 60, Go 90
    stalled_s: float = 5.0


class ClientConnection(asyncio.Protocol):
    """A connection to a client, with the protocol of uvicorn behind it.

    A request is begun with its first byte, whole with its last, passed when uvicorn has all of it, and answered when
    the application has finished. Requests come one after the other, so four counts show the stage of each.
    """

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *, app_state: dict[str, Any], **given: Any) -> None:
        self._uvicorn = HttpToolsProtocol(app_state={**app_state, "connection": self}, **given)
        self._loop = asyncio.get_running_loop()
        self._requests = RequestParser()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed = 0  # the request that the timer is for, 0 where it is for none
        self._passed = self._answered = 0
        self._responding = False
        self._refused = False
        self._received_at = 0.0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the idle limit, which holds for the first request too."""
        self._transport = cast(asyncio.Transport, transport)
        self._uvicorn.connection_made(self._transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Pass data on to uvicorn, or refuse the connection."""
        if self._requests.problem is not None:
            return  # further input is read only so that the client gets to read the refusal
        self._requests.feed(data)
        if self._requests.problem is not None:
            self._refuse(self._requests.problem)
            return
        self._passed = self._requests.whole
        self._uvicorn.data_received(data)
        self._received_at = self._loop.time()
        self._watch()

    def eof_received(self) -> bool | None:
        """Pass the event on to uvicorn."""
        return self._uvicorn.eof_received()

    def pause_writing(self) -> None:
        """Pass the event on to uvicorn."""
        self._uvicorn.pause_writing()

    def resume_writing(self) -> None:
        """Pass the event on to uvicorn."""
        self._uvicorn.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the limits, and tell uvicorn unless it was told at a refusal."""
        self._set_timer(None)
        self._transport = None
        if not self._refused:
            self._uvicorn.connection_lost(exc)

    # Called around the application.

    def answer_begins(self, scope: Scope) -> None:
        """Note that the application starts on a request, and remove trailers."""
        self._responding = False
        # RFC 9110, 6.5.1: such a field must not be taken for a header. uvicorn appends it to the headers.
        scope["headers"] = scope["headers"][: self._requests.next_field_count()]

    def response_begins(self) -> None:
        """Note that the answer has begun, so that no other can be given."""
        self._responding = True

    def answer_ends(self) -> None:
        """Note that a request is answered."""
        self._answered += 1
        self._responding = False
        if self._requests.problem is not None:
            self._refuse(self._requests.problem)
        elif self._requests.is_inside_request:
            self._watch()  # else uvicorn's own limit holds until the next request

    def hang_up(self) -> None:
        """Close the connection at once, as if the client had disconnected."""
        if self._transport is not None:
            self._transport.abort()

    # Limits.

    def _watch(self) -> None:
        """Set the timer that fits the state of the connection."""
        if self._transport is None:
            return
        begun = self._requests.begun
        if self._requests.is_inside_request and self._answered >= begun - 1:
            if self._timed != begun:
                self._set_timer(self.limits.request_s, begun)
        elif begun > self._answered:
            self._set_timer(None)
        elif self._timer is None or self._timed:
            self._set_timer(self.limits.idle_s)

    def _set_timer(self, seconds: float | None, request: int = 0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timed = request
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        stalled = self._loop.time() >= self._received_at + self.limits.stalled_s
        if self._timed and not stalled and self._can_answer():
            self._refuse(ProblemError(REQUEST_TIMEOUT, f"A request must be whole within {self.limits.request_s:g} s."))
        else:
            self.hang_up()

    def _can_answer(self) -> bool:
        """Return whether an answer sent now would be that to an incomplete request."""
        return self._passed <= self._answered < self._requests.begun and not self._responding

    def _refuse(self, problem: ProblemError) -> None:
        """Answer with a problem and close, once the earlier requests are answered."""
        self._requests.problem = problem
        if self._refused or self._transport is None:
            return
        if self._can_answer():
            self._refused = True
            # Closing with unread input resets the connection and can discard the answer: go on reading.
            self._set_timer(LINGER_S)
            self._uvicorn.connection_lost(ConnectionAbortedError())
            self._transport.write(_encoded(problem))
            self._transport.write_eof()
        elif self._answered < self._requests.begun:
            self._set_timer(None)  # the end of an answer calls this again
        else:
            self._transport.close()


def limited(limits: Limits) -> type[ClientConnection]:
    """Return the class of connections with these limits."""

    class LimitedConnection(ClientConnection):
        """A connection with limits of its own."""

    LimitedConnection.limits = limits
    return LimitedConnection


def _encoded(problem: ProblemError) -> bytes:
    """Return a problem as a complete HTTP answer that closes the connection."""
    response = problem_response(problem)
    headers = [*response.raw_headers, (b"date", formatdate(usegmt=True).encode()), (b"connection", b"close")]
    lines = [
        f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
    ]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
