"""Connections of clients, watched in front of uvicorn: what is no request is refused, and half a request cut off.

uvicorn takes a protocol class and hands it the bytes of a connection (https://www.uvicorn.org/settings/, `--http`).
This one reads the outline of each request with a parser of its own, which costs a few microseconds, and passes the
bytes on to the protocol of uvicorn. It never changes them.
"""

import asyncio
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.http.problems import BAD_REQUEST, HEADERS_TOO_LARGE, REQUEST_TIMEOUT, ProblemError, problem_response

MAX_HEADER_BYTES = 16 * 1024
LINGER_S = 2.0

_FIELD_BYTES = 4  # the colon, the space and the end of a line
_VERSIONS = frozenset({"1.0", "1.1"})


class Limits(NamedTuple):
    """How long a client may take to send a whole request, and how long it may send none at all.

    One that has sent nothing for `stalled_s` when its time is up is not going to read an answer either.
    """

    request_s: float = 30.0
    idle_s: float = 120.0  # longer than pools keep theirs: httpx 5 s, aiohttp 15, nginx 60, Go 90
    stalled_s: float = 5.0


class ClientConnection(asyncio.Protocol):
    """A connection to a client, with the protocol of uvicorn behind it.

    A request counts as begun with its first byte, as whole with its last, as passed when uvicorn has all of it, and as
    answered when the application is done with it. They come one after the other, so these numbers tell where it is.
    """

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *, app_state: dict[str, Any], **given: Any) -> None:
        self._uvicorn = HttpToolsProtocol(app_state={**app_state, "connection": self}, **given)
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own, which reads the same
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed = 0  # the request that the timer is for, 0 where it is for none
        self._begun = self._whole = self._passed = self._answered = 0
        self._responding = False
        self._refused = False
        self._heard_at = 0.0
        self._url = b""
        self._fields = self._header_bytes = self._body_pieces = self._unparsed_bytes = 0
        self._field_counts: deque[int] = deque()
        self._problem: ProblemError | None = None

    # What a transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request as for any other."""
        self._transport = cast(asyncio.Transport, transport)
        self._uvicorn.connection_made(self._transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Pass data on to uvicorn unless it is no request."""
        if self._problem is not None:
            return  # it is only read so that the client gets to read the refusal
        try:
            if len(data) <= MAX_HEADER_BYTES:
                self._parse(data)
            else:
                view = memoryview(data)
                for start in range(0, len(data), MAX_HEADER_BYTES):
                    self._parse(view[start : start + MAX_HEADER_BYTES])
        except httptools.HttpParserUpgrade:
            pass  # uvicorn stops reading here as well, and goes on with HTTP/1.1
        except httptools.HttpParserError as error:
            self._problem = self._problem or ProblemError(BAD_REQUEST, f"This is no HTTP request: {error}.")
        if self._problem is not None:
            self._refuse(self._problem)
            return
        self._passed = self._whole
        self._uvicorn.data_received(data)
        self._heard_at = self._loop.time()
        self._watch()

    def eof_received(self) -> bool | None:
        """Leave it to uvicorn."""
        return self._uvicorn.eof_received()

    def pause_writing(self) -> None:
        """Leave it to uvicorn."""
        self._uvicorn.pause_writing()

    def resume_writing(self) -> None:
        """Leave it to uvicorn."""
        self._uvicorn.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._set_timer(None)
        self._transport = None
        if not self._refused:
            self._uvicorn.connection_lost(exc)

    # What the parser tells. It calls nothing while a field is incomplete, however long that is.

    def _parse(self, piece: bytes | memoryview) -> None:
        before = self._begun, self._header_bytes, self._body_pieces
        self._parser.feed_data(piece)
        if (self._begun, self._header_bytes, self._body_pieces) != before:
            self._unparsed_bytes = 0
        elif self._begun > self._whole:
            self._unparsed_bytes += len(piece)
        if max(self._header_bytes, self._unparsed_bytes) > MAX_HEADER_BYTES:
            self._problem = _too_large()

    def on_message_begin(self) -> None:
        """Count a request."""
        self._begun += 1
        self._url = b""
        self._fields = self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the target of a request, which may come in pieces."""
        self._url += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Measure a header, or a field after a chunked body."""
        self._fields += 1
        self._header_bytes += len(name) + len(value) + _FIELD_BYTES

    def on_headers_complete(self) -> None:
        """Refuse what uvicorn could not name a path of, or would take for something else."""
        self._field_counts.append(self._fields)
        if self._header_bytes > MAX_HEADER_BYTES:
            self._problem = _too_large()
        elif self._parser.get_http_version() not in _VERSIONS:
            self._problem = ProblemError(BAD_REQUEST, "The HTTP version must be 1.1 or 1.0.")
        elif not _has_path(self._url):
            self._problem = ProblemError(BAD_REQUEST, "The target of a request must be a path.")

    def on_body(self, _: bytes) -> None:
        """Note that the parser has come further."""
        self._body_pieces += 1

    def on_chunk_header(self) -> None:
        """Note that the parser has come further."""
        self._body_pieces += 1

    def on_message_complete(self) -> None:
        """Count a request as whole."""
        self._whole += 1

    # What the application tells.

    def answer_begins(self, scope: Scope) -> None:
        """Note that a request is being answered, and hide from the application what came after a chunked body."""
        self._responding = False
        # RFC 9110, 6.5.1: such a field must not be taken for a header. uvicorn appends it to the list of them.
        scope["headers"] = scope["headers"][: self._field_counts.popleft()]

    def response_begins(self) -> None:
        """Note that no other answer can be given any more."""
        self._responding = True

    def answer_ends(self) -> None:
        """Note that a request is answered."""
        self._answered += 1
        self._responding = False
        if self._problem is not None:
            self._refuse(self._problem)
        elif self._begun > self._whole:
            self._watch()  # else uvicorn waits for the next request

    def hang_up(self) -> None:
        """Close the connection at once; the application hears that the client has gone."""
        if self._transport is not None:
            self._transport.abort()

    # Cutting off.

    def _watch(self) -> None:
        """Have the timer run that the connection is in need of."""
        if self._transport is None:
            return
        if self._begun > self._whole and self._answered >= self._begun - 1:
            if self._timed != self._begun:
                self._set_timer(self.limits.request_s, self._begun)
        elif self._begun > self._answered:
            self._set_timer(None)
        elif self._timer is None or self._timed:
            self._set_timer(self.limits.idle_s)

    def _set_timer(self, seconds: float | None, request: int = 0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timed = request
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        stalled = self._loop.time() >= self._heard_at + self.limits.stalled_s
        if self._timed and not stalled and self._can_answer():
            self._refuse(ProblemError(REQUEST_TIMEOUT, f"A request must be whole within {self.limits.request_s:g} s."))
        else:
            self.hang_up()

    def _can_answer(self) -> bool:
        """Return whether an answer that is sent now is that to a request which uvicorn does not have as a whole."""
        return self._passed <= self._answered < self._begun and not self._responding

    def _refuse(self, problem: ProblemError) -> None:
        """Answer with a problem and close, once the requests before are answered.

        To close while there is something to be read resets the connection, and can take the answer with it: what the
        client still sends is read for a moment.
        """
        self._problem = problem
        if self._refused or self._transport is None:
            return
        if self._can_answer():
            self._refused = True
            self._set_timer(LINGER_S)
            self._uvicorn.connection_lost(ConnectionAbortedError())
            self._transport.write(_encoded(problem))
            self._transport.write_eof()
        elif self._answered < self._begun:
            self._set_timer(None)  # the end of an answer brings this on again
        else:
            self._transport.close()


def limited(limits: Limits) -> type[ClientConnection]:
    """Return the class of connections with these limits."""

    class LimitedConnection(ClientConnection):
        """A connection with limits of its own."""

    LimitedConnection.limits = limits
    return LimitedConnection


def _too_large() -> ProblemError:
    return ProblemError(HEADERS_TOO_LARGE, f"The request line and the headers are at most {MAX_HEADER_BYTES} bytes.")


def _has_path(target: bytes) -> bool:
    try:
        return bool(httptools.parse_url(target).path)
    except httptools.HttpParserError:
        return False


def _encoded(problem: ProblemError) -> bytes:
    """Return a problem as the whole of an answer, after which the connection is closed."""
    response = problem_response(problem)
    headers = [*response.raw_headers, (b"date", formatdate(usegmt=True).encode()), (b"connection", b"close")]
    lines = [
        f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode(),
        *(name + b": " + value for name, value in headers),
    ]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
