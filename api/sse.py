"""Server-sent events: frames as they come, and a comment in every 15 s of silence so that proxies keep the line.

They go out in pieces of 64 KiB at most: the server sends the next one only when the connection has taken the last, so
a reader that stops reading keeps a piece in memory, and not all that it has not read.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any

import orjson
from fastapi.responses import StreamingResponse

from api.call import Call
from api.incoming import header_number
from projections.resources import recorded_event_resource
from turns.frames import Frame

HEARTBEAT_S = 15.0
PIECE_BYTES = 64 * 1024

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


Encode = Callable[[Any], bytes]

_ending: set[asyncio.Task[None]] = set()


def event_stream(
    batches: AsyncGenerator[list[Any]], headers: dict[str, str], encode: Encode = lambda frame: frame.encoded
) -> StreamingResponse:
    """Answer with the frames of a turn, or with what `encode` encodes, as server-sent events."""
    return StreamingResponse(_encoded(batches, encode), 200, {**_HEADERS, **headers}, "text/event-stream")


def live_event(item: dict[str, Any] | Frame) -> bytes:
    """Return what comes in a feed: a recorded event, whose id is its position, or a live frame, which has none."""
    if isinstance(item, Frame):
        return item.encoded.split(b"\n", 1)[1]
    data = orjson.dumps(recorded_event_resource(item))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (item["position"], item["type"].encode(), data)


def last_event_id(call: Call) -> int | None:
    """Return the id of the last frame or fact that the client has seen, None if it names none.

    Raises:
        ProblemError: it is no number.
    """
    given = call.request.header(b"last-event-id")
    return header_number("Last-Event-ID", given, "an id of the stream") if given else None


async def _encoded(batches: AsyncGenerator[list[Any]], encode: Encode) -> AsyncGenerator[bytes]:
    following = asyncio.ensure_future(anext(batches, None))
    try:
        while True:
            done, _ = await asyncio.wait([following], timeout=HEARTBEAT_S)
            if not done:
                yield b": still here\n\n"
                continue
            batch = following.result()
            if batch is None:
                return
            for piece in _pieces(map(encode, batch)):
                yield piece
            following = asyncio.ensure_future(anext(batches, None))
    finally:
        # A task of its own: whoever cancels this one again would interrupt a query that is being cancelled already.
        ending = asyncio.create_task(_end(following, batches))
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)


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


async def _end(following: asyncio.Future[Any], batches: AsyncGenerator[list[Any]]) -> None:
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await batches.aclose()
