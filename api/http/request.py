"""Reading of a request: its headers, and its body up to a limit."""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import Receive, Scope

from api.http.bodies import BodyMemory, client_disconnected
from api.http.connection_tracking import connection_of
from api.http.problems import PAYLOAD_TOO_LARGE, UNSUPPORTED_ENCODING, ProblemError, validation_problem

MAX_BODY_BYTES = 10 * 1024 * 1024
SMALL_BODY_BYTES = 64 * 1024
MAX_DIGITS = 18
METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

# A header that is there twice is one list of values. For credentials and owners, no list is valid.
_JOINED = (b"if-match", b"authorization", b"turnlog-owner")
_NOT_ENCODED = frozenset({"", "identity"})


class HttpRequest(NamedTuple):
    """A complete request.

    `headers` are those of `read_headers`. `query` is without a short token.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """Return the value of a header, None if it is absent. `name` is in lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def header_number(name: str, value: str, meaning: str) -> int:
    """Return a header's value as a number.

    Raises:
        ProblemError: it is not a number of at most 18 digits. The message says that it must be `meaning`.
    """
    if not value.isdecimal() or len(value) > MAX_DIGITS:
        raise validation_problem("The request is not valid.", ("header", name), f"must be {meaning}")
    return int(value)


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the first header of each name, and all values of some."""
    headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
    if len(headers) < len(scope["headers"]):
        for joined in _JOINED:
            if joined in headers:
                headers[joined] = b", ".join(value for name, value in scope["headers"] if name == joined)
    return headers


async def read_request(scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], query: bytes) -> HttpRequest:
    """Return the request of an ASGI scope, with its body if its method has one.

    Raises:
        ProblemError: the body is compressed or too large, the client disconnected, or too many large bodies arrive at
            once.
    """
    body = await _read_body(headers, scope, receive) if scope["method"] in METHODS_WITH_BODY else b""
    return HttpRequest(scope["method"], scope["path"], query, headers, body)


async def _read_body(headers: Mapping[bytes, bytes], scope: Scope, receive: Receive) -> bytes:
    _refuse_compressed(headers)
    # A large body is refused as soon as its size is known, before it has arrived.
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
    """Return the whole of a body that begins with `body`."""
    connection = connection_of(scope)
    memory: BodyMemory = scope["app"].state.body_memory
    with memory.arriving(connection.hang_up if connection else None) as arriving:
        await arriving.add(body)
        size, more = len(body), True
        while more:
            piece, more = await _receive_piece(receive)
            size += len(piece)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            await arriving.add(piece)
        return arriving.content()


async def _receive_piece(receive: Receive) -> tuple[bytes, bool]:
    """Return the next piece of a body, and whether more follow."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise client_disconnected()
    return message.get("body", b""), message.get("more_body", False)


def _refuse_compressed(headers: Mapping[bytes, bytes]) -> None:
    # A few kilobytes can decompress to gigabytes, so nothing is decompressed.
    given = headers.get(b"content-encoding")
    if given is None or {part.strip().lower() for part in given.decode("latin-1").split(",")} <= _NOT_ENCODED:
        return
    # The header of the answer is that of RFC 7694.
    accepted = {"Accept-Encoding": "identity"}
    raise ProblemError(UNSUPPORTED_ENCODING, "A request body cannot be compressed.", headers=accepted)


def _too_large() -> ProblemError:
    return ProblemError(PAYLOAD_TOO_LARGE, f"A request body is at most {MAX_BODY_BYTES} bytes.")
