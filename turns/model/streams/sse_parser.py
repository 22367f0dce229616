"""Parses the server-sent events of providers by the rules of the WHATWG.

Lines end in LF, CR or CRLF. A byte-order mark before the first line, comments and unknown fields are skipped. The
`data` lines of an event are joined by a line feed. Three more forms are read because servers send them: a last event
without an empty line after it, events without an empty line between them, and a body that is a JSON document, which
counts as an event without a name.
"""

import json
import re
from typing import Any, Final, NamedTuple, cast

import orjson

from turns.model.errors import ModelError

MAX_ANSWER_SIZE: Final = 32 * 1024 * 1024
"""Limit of an answer's characters, and of an event's bytes: far above what models send, far below PostgreSQL's."""

DONE: Final = b"[DONE]"

_BOM: Final = b"\xef\xbb\xbf"
_UNUSUAL_LINE_ENDS: Final = re.compile(b"\xe2\x80[\xa8\xa9]|\xc2\x85|[\x0b\x0c\x1c-\x1e]")


class ServerEvent(NamedTuple):
    """An event.

    The name is mostly empty. The data has no surrounding white space. They are never both empty.
    """

    name: bytes
    data: bytes


class EventParser:
    """Parses the bytes of one stream, which may be cut anywhere, into events."""

    def __init__(self) -> None:
        """Begin with the first byte of a stream."""
        self._line: list[bytes] = []
        self._line_size = 0
        self._after_cr = False
        self._begun = False
        self._is_document = False
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that this piece completes.

        Raises:
            ModelError: an event is too large.
        """
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\r" in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = piece.split(b"\n")
        self._line.append(first)
        self._line_size += len(first)
        events: list[ServerEvent] = []
        if others:
            *lines, rest = others
            self._take_line(b"".join(self._line), events)
            for line in lines:
                self._take_line(line, events)
            self._line, self._line_size = [rest], len(rest)
        if self._line_size + self._data_size > MAX_ANSWER_SIZE:
            raise answer_too_large()
        return events

    def end(self) -> list[ServerEvent]:
        """Return the events that the end of the stream completes."""
        events: list[ServerEvent] = []
        self._take_line(b"".join(self._line), events)
        self._dispatch(events)
        return events

    def _take_line(self, line: bytes, events: list[ServerEvent]) -> None:
        if not self._begun:
            line = line.removeprefix(_BOM)
            self._begun = bool(line.strip())
            self._is_document = line.lstrip()[:1] in (b"{", b"[")
        if self._is_document:
            self._add_data(line, events)
        elif not line:
            self._dispatch(events)
        else:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                self._add_data(value, events)
            elif name == b"event":
                self._name = value.strip()

    def _add_data(self, value: bytes, events: list[ServerEvent]) -> None:
        if self._data and self._is_whole():
            self._dispatch(events)
        self._data.append(value)
        self._data_size += len(value)

    def _is_whole(self) -> bool:
        """Return whether the data is complete.

        A further line of data then belongs to the next event.
        """
        if self._data[-1].rstrip()[-1:] not in (b"}", b"]"):
            return False
        data = b"\n".join(self._data).strip()
        try:
            return data == DONE or orjson.loads(data) is not None
        except ValueError:
            return False

    def _dispatch(self, events: list[ServerEvent]) -> None:
        data = (self._data[0] if len(self._data) == 1 else b"\n".join(self._data)).strip()
        if data or self._name:
            events.append(ServerEvent(self._name, data))
        self._name, self._data, self._data_size = b"", [], 0


def answer_too_large() -> ModelError:
    """Return the error of an answer beyond the limit."""
    return ModelError("model_error", "The model's answer is too large.")


def event_bytes(event: ServerEvent) -> bytes:
    """Return an event as bytes, with its data in one line for any line reader."""
    name = b"event: %b\n" % event.name if event.name else b""
    return b"%bdata: %b\n\n" % (name, without_unusual_line_ends(event.data.replace(b"\n", b" ")))


def without_unusual_line_ends(data: bytes) -> bytes:
    """Escape the characters in JSON, besides LF and CR, that end a line for Python."""
    return _UNUSUAL_LINE_ENDS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), data)


def parsed(data: bytes) -> dict[str, Any]:
    """Parse the JSON object of an event.

    Lone surrogates and invalid UTF-8 are accepted.

    Raises:
        ValueError: the data is not JSON.
        TypeError: the JSON is not an object.
    """
    try:
        chunk: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        chunk = json.loads(data.decode("utf-8", "replace"), strict=False)
    if not isinstance(chunk, dict):
        raise TypeError("the provider did not send the event as an object")
    return cast("dict[str, Any]", chunk)
