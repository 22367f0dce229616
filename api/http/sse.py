"""Server-sent events: a stream of frames, with comments while it is silent.

A comment comes first, to show the client and the proxies before it that the stream is open. Another one comes after
every 15 s without a frame, to keep proxies from closing an idle connection.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import chain
from time import monotonic
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http.call import Call
from api.http.request import header_number
from eventlog.background import Background, cancel_and_wait
from turns.frames.frames import Frame
from turns.live_events import FeedEvent

OPEN = b": open\n\n"
HEARTBEAT_S = 15.0

# A stream is sent in pieces, each when the connection has accepted the one before. So a client that stops reading costs
# the memory of one piece, not that of everything it has not read.
PIECE_BYTES = 64 * 1024
LARGE_BYTES = 4 * 1024

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Encode = Callable[[Any], Sequence[bytes]]
"""Encodes an item as one server-sent event, in parts that follow each other."""

_closing = Background()


def sse_event(event: str, data: bytes, event_id: int | None = None) -> Sequence[bytes]:
    """Return one server-sent event in parts. `data` is a single line."""
    head = b"event: %s\ndata: " % event.encode()
    if event_id is not None:
        head = b"id: %d\n%s" % (event_id, head)
    if len(data) < LARGE_BYTES:
        return [b"%s%s\n\n" % (head, data)]
    # Large data is not copied, because all readers of a turn share it.
    return [head, data, b"\n\n"]


def turn_event(frame: Frame) -> Sequence[bytes]:
    """Encode a frame of a turn, with its `seq` as id."""
    return sse_event(frame.event, frame.data_json, frame.seq)


def feed_event(item: FeedEvent | Frame) -> Sequence[bytes]:
    """Encode an item of a feed.

    A recorded event has its position as id, and a live frame has no id.
    """
    if isinstance(item, Frame):
        return sse_event(item.event, item.data_json)
    return sse_event(item.record["type"], item.data_json, item.position)


def event_stream(
    batches: AsyncGenerator[list[Any]], headers: dict[str, str], encode: Encode = turn_event
) -> "EventStream":
    """Return a response that streams batches of items as server-sent events.

    `encode` encodes an item. Without it the items are frames of a turn.
    """
    return EventStream(batches, headers, encode)


def last_event_id(call: Call) -> int | None:
    """Return the id that the client names as `Last-Event-ID`, None if it names none.

    Raises:
        ProblemError: it is not a number.
    """
    given = call.request.header(b"last-event-id")
    return header_number("Last-Event-ID", given, "an id of the stream") if given else None


class EventStream(StreamingResponse):
    """A response that sends batches, and a comment after 15 s without one."""

    media_type = "text/event-stream"

    def __init__(self, batches: AsyncGenerator[list[Any]], headers: dict[str, str], encode: Encode) -> None:
        super().__init__((), 200, {**_HEADERS, **headers})  # the content comes from `batches`
        self._batches = batches
        self._encode = encode
        self._send_lock = asyncio.Lock()
        self._sent_at = 0.0
        self._wait_for_end: Callable[[], Coroutine[Any, Any, None]] | None = None

    def end_with(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End the stream when `wait` returns, wherever it is."""
        self._wait_for_end = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, or for HEAD its headers alone, without reading a batch."""
        if scope["method"] != "HEAD":
            await super().__call__(scope, receive, send)
            return
        await self._start(send)
        await send(_body(b"", more=False))
        await self._batches.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send all batches."""
        await self._start(send)
        self._sent_at = monotonic()
        sending = asyncio.create_task(self._send(send))
        tasks = [sending]
        if self._wait_for_end is not None:
            tasks.append(asyncio.create_task(self._wait_for_end()))
        try:
            async with self._send_lock:
                await send(_body(OPEN))
            while not (ended := await _first_of(tasks, self._sent_at + HEARTBEAT_S - monotonic())):
                await self._send_heartbeat(send)
            if sending in ended:
                await sending
            else:
                await cancel_and_wait([sending])
            await send(_body(b"", more=False))
        finally:
            # In a task of its own: a second cancellation of this one would interrupt a query that is being cancelled.
            _closing.once("the end of an event stream", lambda: _close(tasks, self._batches))

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send(self, send: Send) -> None:
        async for batch in self._batches:
            async with self._send_lock:
                for piece in _pieces(chain.from_iterable(map(self._encode, batch))):
                    await send(_body(piece))
            self._sent_at = monotonic()

    async def _send_heartbeat(self, send: Send) -> None:
        if monotonic() - self._sent_at < HEARTBEAT_S:
            return
        self._sent_at = monotonic()
        if not self._send_lock.locked():  # a locked one means that a batch is being sent
            async with self._send_lock:
                await send(_body(b": still here\n\n"))


def _body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small parts, and cut large ones, into pieces of at most `PIECE_BYTES`."""
    waiting: list[bytes] = []
    size = 0
    for whole in parts:
        for start in range(0, len(whole), PIECE_BYTES):
            part = whole[start : start + PIECE_BYTES]
            if size + len(part) > PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
            waiting.append(part)
            size += len(part)
    yield b"".join(waiting)


async def _first_of(tasks: Sequence[asyncio.Task[None]], timeout_s: float) -> set[asyncio.Task[None]]:
    return (await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED))[0]


async def _close(tasks: Sequence[asyncio.Task[None]], batches: AsyncGenerator[list[Any]]) -> None:
    await cancel_and_wait(tasks)
    await batches.aclose()
