"""Server-sent events: frames as they come, and a comment in every 15 s of silence so that proxies keep the line.

A stream begins with a comment, so that a client and the proxies before it see at once that it is open.

They go out in pieces of 64 KiB at most: the server sends the next one only when the connection has taken the last, so
a reader that stops reading keeps a piece in memory, and not all that it has not read.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from time import monotonic
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http.call import Call
from api.http.request import header_number
from eventlog.background import cancel_and_wait
from turns.frames.frames import Frame
from turns.live_events import FeedEvent

OPEN = b": open\n\n"
HEARTBEAT_S = 15.0
PIECE_BYTES = 64 * 1024

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Encode = Callable[[Any], bytes]

_ending: set[asyncio.Task[None]] = set()


def event_stream(
    batches: AsyncGenerator[list[Any]], headers: dict[str, str], encode: Encode = lambda frame: frame.encoded
) -> StreamingResponse:
    """Answer with the frames of a turn, or with what `encode` encodes, as server-sent events."""
    return _EventStream(batches, headers, encode)


def live_event(item: FeedEvent | Frame) -> bytes:
    """Return what comes in a feed: a recorded event, whose id is its position, or a live frame, which has none."""
    return item.encoded if isinstance(item, FeedEvent) else item.encoded.split(b"\n", 1)[1]


def last_event_id(call: Call) -> int | None:
    """Return the id of the last frame or fact that the client has seen, None if it names none.

    Raises:
        ProblemError: it is no number.
    """
    given = call.request.header(b"last-event-id")
    return header_number("Last-Event-ID", given, "an id of the stream") if given else None


class _EventStream(StreamingResponse):
    """Sends batches in a task of its own, and a comment whenever that has been silent for long."""

    def __init__(self, batches: AsyncGenerator[list[Any]], headers: dict[str, str], encode: Encode) -> None:
        super().__init__((), 200, {**_HEADERS, **headers}, "text/event-stream")  # its content is `batches`
        self._batches = batches
        self._encode = encode
        self._line = asyncio.Lock()
        self._heard_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the stream, and a HEAD with its headers alone: nothing is read for it."""
        if scope["method"] != "HEAD":
            await super().__call__(scope, receive, send)
            return
        await self._start(send)
        await send(_body(b"", more=False))
        await self._batches.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send what comes, to its end."""
        await self._start(send)
        self._heard_at = monotonic()
        sending = asyncio.create_task(self._send(send))
        try:
            async with self._line:
                await send(_body(OPEN))
            while not (await asyncio.wait([sending], timeout=self._heard_at + HEARTBEAT_S - monotonic()))[0]:
                await self._break_silence(send)
            await sending
            await send(_body(b"", more=False))
        finally:
            # A task of its own: whoever cancels this one again would interrupt a query that is being cancelled already.
            ending = asyncio.create_task(_end(sending, self._batches))
            _ending.add(ending)
            ending.add_done_callback(_ending.discard)

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send(self, send: Send) -> None:
        async for batch in self._batches:
            async with self._line:
                for piece in _pieces(map(self._encode, batch)):
                    await send(_body(piece))
            self._heard_at = monotonic()

    async def _break_silence(self, send: Send) -> None:
        if monotonic() - self._heard_at < HEARTBEAT_S:
            return
        self._heard_at = monotonic()
        if not self._line.locked():  # else a batch is on its way
            async with self._line:
                await send(_body(b": still here\n\n"))


def _body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _pieces(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """Join what is small and cut what is large."""
    waiting: list[bytes] = []
    size = 0
    for whole in encoded:
        for start in range(0, len(whole), PIECE_BYTES):
            part = whole[start : start + PIECE_BYTES]
            if size + len(part) > PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
            waiting.append(part)
            size += len(part)
    yield b"".join(waiting)


async def _end(sending: asyncio.Task[None], batches: AsyncGenerator[list[Any]]) -> None:
    await cancel_and_wait([sending])
    await batches.aclose()
