"""Server-sent events: frames as they come, and a comment in every 15 s of silence so that proxies keep the line."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson
from fastapi.responses import StreamingResponse

from api.call import Call
from api.problems import validation_problem
from projections.resources import recorded_event_resource
from turns.frames import Frame

HEARTBEAT_S = 15.0

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
    if not given:
        return None
    if not given.isdecimal() or not given.isascii() or len(given) > 18:
        raise validation_problem(
            "The request is not valid.", ("header", "Last-Event-ID"), "must be an id of the stream"
        )
    return int(given)


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
            yield b"".join(map(encode, batch))
            following = asyncio.ensure_future(anext(batches, None))
    finally:
        # A task of its own: whoever cancels this one again would interrupt a query that is being cancelled already.
        ending = asyncio.create_task(_end(following, batches))
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)


async def _end(following: asyncio.Future[Any], batches: AsyncGenerator[list[Any]]) -> None:
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await batches.aclose()
