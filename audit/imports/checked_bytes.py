"""Bytes of a JSON file, checked to be Unicode before a parser gets them."""

import codecs
import re
from typing import Protocol

from audit.imports.errors import ImportFormatError

MAX_CONVERSATION_BYTES = 256 * 1024 * 1024

_BYTE_ORDER_MARK = codecs.BOM_UTF8
_LONGEST_ESCAPE = len(rb"\ud83d\ude00")
_WHOLE_ESCAPES = re.compile(
    rb"(?:[^\\]+"
    rb"|\\[^u]"
    rb"|\\u(?:[^dD]|[dD][0-7])"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*"
)
"""Matches up to the first escape of half a character, or to an escape that is cut."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


class Readable(Protocol):
    """An open file, or a part of an archive."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end."""
        ...


class CheckedBytes:
    """A file whose bytes are checked as they are read.

    The bytes before a fault are returned first, and the next `read` raises its error. So the parser has passed
    everything before the fault when it learns of it, and knows the place. `ended` tells whether the end was read.
    `values` is the number of keys and values that the parser found in this conversation.
    """

    # yajl, the parser below ijson, turns half a surrogate pair into "?" or joins it with any escape that follows.

    def __init__(self, file: Readable, max_bytes: int = MAX_CONVERSATION_BYTES) -> None:
        """Read from `file`, at most about `max_bytes` for one conversation."""
        self.ended = False
        self.values = 0
        self._file = file
        self._max_bytes = max_bytes
        self._since = 0
        self._first = True
        self._held = b""
        self._fault: str | None = None

    def next_conversation(self) -> None:
        """Begin to count the bytes and the values of the next conversation."""
        self._since = self.values = 0

    def read(self, size: int, /) -> bytes:
        """Return some checked bytes, and none at the end.

        Raises:
            ImportFormatError: the bytes after those returned before are no Unicode text, or too many.
        """
        # ijson reads 0 bytes to learn whether a file holds bytes or text.
        checked = b""
        while not checked and not self.ended and size:
            if self._fault is not None:
                raise ImportFormatError(self._fault)
            read = self._file.read(size)
            checked = self._checked(self._begun(self._held + read), at_end=not read)
            self.ended = not read and not checked and self._fault is None
        self._since += len(checked)
        if self._since > self._max_bytes:
            raise ImportFormatError(f"longer than {self._max_bytes} bytes")
        return checked

    def _begun(self, data: bytes) -> bytes:
        """Return the data without the byte order mark that a file may begin with."""
        if not self._first:
            return data
        self._first = data != _BYTE_ORDER_MARK and _BYTE_ORDER_MARK.startswith(data)
        return data.removeprefix(_BYTE_ORDER_MARK)

    def _checked(self, data: bytes, *, at_end: bool) -> bytes:
        """Return the data up to a fault or a cut character, and hold the rest."""
        whole = self._whole_characters(data)
        if at_end and self._fault is None:
            whole = len(data)  # a cut character too: the parser sees that the file ends too early
        escaped = _end(_WHOLE_ESCAPES, data, whole)
        decided = at_end or self._fault is not None or whole - escaped >= _LONGEST_ESCAPE
        if escaped < whole and decided and (surrogate := _SURROGATE.match(data, escaped, whole)):
            self._fault = f"the escape {surrogate.group().decode()} is half a character (a lone surrogate)"
            whole = escaped
        elif escaped < whole and not decided:
            whole = escaped
        self._held = data[whole:]
        return data[:whole]

    def _whole_characters(self, data: bytes) -> int:
        """Return the length of the data that is UTF-8 and ends with a whole character."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(data)
        except UnicodeDecodeError as error:
            self._fault = "not UTF-8"
            return error.start
        cut, _ = decoder.getstate()
        return len(data) - len(cut)


def _end(pattern: re.Pattern[bytes], data: bytes, length: int) -> int:
    match = pattern.match(data, 0, length)
    return match.end() if match else 0
