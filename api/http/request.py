"""A request as the routes see it: read once and limited in size, without the framework's objects around it."""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import Receive, Scope

from api.http.bodies import broken_off
from api.http.connection_tracking import connection_of
from api.http.problems import ProblemError, ProblemKind, validation_problem

MAX_BODY_BYTES = 10 * 1024 * 1024
SMALL_BODY_BYTES = 64 * 1024
MAX_DIGITS = 18

_IF_MATCH = b"if-match"
_WITH_BODY = frozenset({"POST", "PATCH"})
_PAYLOAD_TOO_LARGE = ProblemKind(413, "PAYLOAD_TOO_LARGE")


class HttpRequest(NamedTuple):
    """A request that has arrived whole; `headers` has the first of each name, but all of those that are lists."""

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """Return the header of this name, which is in lower case, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def header_number(name: str, value: str, what: str) -> int:
    """Return the number that a header's value is.

    Raises:
        ProblemError: it is none; `what` says what it must be.
    """
    if not value.isdecimal() or len(value) > MAX_DIGITS:
        raise validation_problem("The request is not valid.", ("header", name), f"must be {what}")
    return int(value)


async def read_request(scope: Scope, receive: Receive) -> HttpRequest:
    """Return the request of a connection's scope.

    Raises:
        ProblemError: its body is too long, or it broke off.
    """
    headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
    if len(headers) < len(scope["headers"]) and _IF_MATCH in headers:
        headers[_IF_MATCH] = b", ".join(value for name, value in scope["headers"] if name == _IF_MATCH)
    body = await _read_body(headers, scope, receive) if scope["method"] in _WITH_BODY else b""
    return HttpRequest(scope["method"], scope["path"], scope["query_string"], headers, body)


async def _read_body(headers: Mapping[bytes, bytes], scope: Scope, receive: Receive) -> bytes:
    """Return the body, and refuse a long one as soon as it is known to be long."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    pieces: list[bytes] = []
    size, more = 0, True
    while more and size <= SMALL_BODY_BYTES:
        piece, more = await _receive_piece(receive)
        pieces.append(piece)
        size += len(piece)
    body = b"".join(pieces)
    return await _read_large_body(body, scope, receive) if more else body


async def _read_large_body(body: bytes, scope: Scope, receive: Receive) -> bytes:
    """Return a body that begins with `body`."""
    connection = connection_of(scope)
    with scope["app"].state.body_room.arriving(connection.hang_up if connection else None) as arriving:
        await arriving.add(body)
        size, more = len(body), True
        while more:
            piece, more = await _receive_piece(receive)
            size += len(piece)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            await arriving.add(piece)
        return arriving.whole()


async def _receive_piece(receive: Receive) -> tuple[bytes, bool]:
    """Return what comes next of a body, and whether there is more."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise broken_off()
    return message.get("body", b""), message.get("more_body", False)


def _too_large() -> ProblemError:
    return ProblemError(_PAYLOAD_TOO_LARGE, f"A request body is at most {MAX_BODY_BYTES} bytes.")
