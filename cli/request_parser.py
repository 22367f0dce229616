"""Read the outline of the requests on a connection."""

from collections import deque

import httptools

from api.http.problems import BAD_REQUEST, HEADERS_TOO_LARGE, ProblemError

MAX_HEADER_BYTES = 16 * 1024

_FIELD_BYTES = 4  # the colon, the space and the end of a line
_VERSIONS = frozenset({"1.0", "1.1"})


class RequestParser:
    """Count and check the requests on a connection, beside uvicorn's own parser.

    `begun` counts the requests of which the first byte has come, `whole` those of which the last byte has.
    """

    def __init__(self) -> None:
        self.begun = self.whole = 0
        self.problem: ProblemError | None = None
        """The reason to refuse the connection, once one was found."""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._url = b""
        self._fields = self._header_bytes = self._body_pieces = self._unparsed_bytes = 0
        self._field_counts: deque[int] = deque()

    @property
    def is_inside_request(self) -> bool:
        """Whether a request has begun that is not whole."""
        return self.begun > self.whole

    def feed(self, data: bytes) -> None:
        """Read on. `problem` is set if this is no request, or its headers are too large."""
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
            self.problem = self.problem or ProblemError(BAD_REQUEST, f"This is no HTTP request: {error}.")

    def next_field_count(self) -> int:
        """Return the number of headers of the next request, without trailers."""
        return self._field_counts.popleft()

    def _parse(self, piece: bytes | memoryview) -> None:
        before = self.begun, self._header_bytes, self._body_pieces
        self._parser.feed_data(piece)
        # The parser calls nothing while a field is incomplete, so the length of such a field is counted here.
        if (self.begun, self._header_bytes, self._body_pieces) != before:
            self._unparsed_bytes = 0
        elif self.is_inside_request:
            self._unparsed_bytes += len(piece)
        if max(self._header_bytes, self._unparsed_bytes) > MAX_HEADER_BYTES:
            self.problem = _too_large()

    # Called by httptools.

    def on_message_begin(self) -> None:
        """Count a request."""
        self.begun += 1
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
        """Refuse a request that uvicorn would find no path in, or would misread."""
        self._field_counts.append(self._fields)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.problem = _too_large()
        elif self._parser.get_http_version() not in _VERSIONS:
            self.problem = ProblemError(BAD_REQUEST, "The HTTP version must be 1.1 or 1.0.")
        elif not _has_path(self._url):
            self.problem = ProblemError(BAD_REQUEST, "The target of a request must be a path.")

    def on_body(self, _: bytes) -> None:
        """Note progress."""
        self._body_pieces += 1

    def on_chunk_header(self) -> None:
        """Note progress."""
        self._body_pieces += 1

    def on_message_complete(self) -> None:
        """Count a request as whole."""
        self.whole += 1


def _too_large() -> ProblemError:
    return ProblemError(HEADERS_TOO_LARGE, f"The request line and the headers are at most {MAX_HEADER_BYTES} bytes.")


def _has_path(target: bytes) -> bool:
    try:
        return bool(httptools.parse_url(target).path)
    except httptools.HttpParserError:
        return False
