"""A connection that sends literal bytes, which no HTTP client would send.

with RawConnection(api.url) as raw:
    raw.send(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    assert raw.answer().status == 200
    assert raw.rest() == b""            # and the server has closed the connection
"""

import json
import socket
from http.client import parse_headers
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE_S


class Answer(NamedTuple):
    """An answer, with header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """Return the problem in the body."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


class RawConnection:
    """A connection to the server at a URL."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), PATIENCE_S)
        self._received = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._received.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """Return the next answer, which must have a content length."""
        answer = self.head()
        return answer._replace(body=self._received.read(int(answer.headers["content-length"])))

    def head(self) -> Answer:
        """Return the next answer without its body."""
        version, status, _ = self.line().split(maxsplit=2)
        assert version == b"HTTP/1.1"
        headers = {name.lower(): value for name, value in parse_headers(self._received).items()}
        return Answer(int(status), headers, b"")

    def line(self) -> bytes:
        """Return the next line."""
        line = self._received.readline()
        assert line.endswith(b"\n"), line
        return line

    def rest(self) -> bytes:
        """Return the bytes that the server sends before it closes the connection."""
        found = b""
        try:
            while piece := self._received.read1(65536):
                found += piece
        except ConnectionResetError:
            pass
        return found
