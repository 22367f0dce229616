"""Readers of a turn's stream over real HTTP, each on its own connection.

Any worker may take a connection.

with streamed("POST", f"{server.url}/v1/turns", {"content": "Hi", "stream": True}) as seen:
    first = next(seen)                                      # a frame: its id, its event and its data in one dict
    turn = turn_url(other.url, first)                       # the same turn, through another server
    assert read(turn) == [first, *seen]

with StalledReader(turn) as stalled:                        # requests the stream and reads nothing
    ...
    assert stalled.read_on() == bytes_of(turn)              # reads to the end
"""

import json
import re
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from time import monotonic
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.http import plain_http
from tests.support.waiting import PATIENCE_S

Frame = dict[str, Any]


@contextmanager
def streamed(method: str, url: str, body: Any = None, last_event_id: int | None = None) -> Generator[Iterator[Frame]]:
    """Open a stream and yield its frames as they arrive."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with plain_http.stream(method, url, json=body, headers=headers) as answer:
        assert answer.status_code == 200
        yield frames(answer.iter_lines())


def frames(lines: Iterator[str]) -> Iterator[Frame]:
    """Yield the frames of a stream.

    Fail when only comments arrive for a long time.
    """
    frame: Frame = {}
    deadline = monotonic() + PATIENCE_S
    for line in lines:
        assert monotonic() < deadline, "no frame came in time"
        name, _, value = line.partition(": ")
        if name in {"id", "event"}:
            frame[name] = value
        elif name == "data":
            yield {**frame, **json.loads(value)}
            deadline = monotonic() + PATIENCE_S


def turn_url(url: str, frame: Frame) -> str:
    """Return the URL of a frame's turn on a server."""
    return f"{conversation_url(url, frame)}/turns/{frame['turn_id']}"


def conversation_url(url: str, frame: Frame) -> str:
    """Return the URL of a frame's conversation on a server."""
    return f"{url}/v1/conversations/{frame['conversation_id']}"


def read(url: str, last_event_id: int | None = None) -> list[Frame]:
    """Return all frames of a turn, or those after one."""
    with streamed("GET", f"{url}/stream", last_event_id=last_event_id) as seen:
        return list(seen)


def bytes_of(url: str) -> bytes:
    """Return the bytes of a turn's whole stream, without keep-alive comments."""
    return _without_comments(plain_http.get(f"{url}/stream").content)


def recorded_chunks(conversation: str) -> list[str]:
    """Return all chunks in the log of a conversation, in order."""
    chunks: list[str] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        page = plain_http.get(f"{conversation}/log", params=query).raise_for_status().json()
        chunks += [text for event in page["data"] for text in event["data"].get("chunks", [])]
        if page["next_cursor"] is None:
            return chunks
        query["cursor"] = page["next_cursor"]


class StalledReader:
    """A client that requests a turn's stream and reads nothing until `read_on`."""

    def __init__(self, turn: str) -> None:
        self._url = urlsplit(f"{turn}/stream")

    def __enter__(self) -> Self:
        self._connection = HTTPConnection(self._url.netloc)
        self._connection.sock = socket.socket()
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._connection.sock.settimeout(PATIENCE_S)
        self._connection.sock.connect((self._url.hostname, self._url.port))
        self._connection.request("GET", self._url.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def read_on(self) -> bytes:
        """Return the rest of the stream, without comments."""
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return _without_comments(self._connection.getresponse().read())


def _without_comments(stream: bytes) -> bytes:
    return re.sub(rb"^:.*\n\n", b"", stream, flags=re.MULTILINE)
