"""Server-sent events: frames as they come, and a comment in every 15 s of silence so that proxies keep the line."""

import asyncio
from collections.abc import AsyncGenerator

from fastapi.responses import StreamingResponse

from turns.frames import Frame

HEARTBEAT_S = 15.0

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(frames: AsyncGenerator[list[Frame]], headers: dict[str, str]) -> StreamingResponse:
    """Answer with the frames as server-sent events."""
    return StreamingResponse(_encoded(frames), 200, {**_HEADERS, **headers}, "text/event-stream")


async def _encoded(frames: AsyncGenerator[list[Frame]]) -> AsyncGenerator[bytes]:
    following = asyncio.ensure_future(anext(frames, None))
    try:
        while True:
            done, _ = await asyncio.wait([following], timeout=HEARTBEAT_S)
            if not done:
                yield b": still here\n\n"
                continue
            batch = following.result()
            if batch is None:
                return
            yield b"".join(frame.encode() for frame in batch)
            following = asyncio.ensure_future(anext(frames, None))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await frames.aclose()
