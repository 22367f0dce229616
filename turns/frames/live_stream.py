"""The live frames of a turn: one list, which readers read at their own speed."""

import asyncio
from asyncio import Future
from collections.abc import AsyncGenerator, Iterable, Sequence

from turns.frames.frames import Frame

MAX_FRAMES_AT_ONCE = 256
SHOWN_WAIT_S = 2.0
"""How long the end of a turn waits for the read models, so that a client that receives it can read the turn."""


class LiveStream:
    """The frames of one turn so far. A slow reader holds an index, not a buffer."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._waits = False
        self._ended = False
        self._grown: Future[None] | None = None

    def publish(self, frames: Iterable[Frame], *, waits: bool = False) -> None:
        """Add frames and wake the readers.

        `waits` says that the turn waits for tool results after them.
        """
        self._frames.extend(frames)
        self._waits = waits
        self._wake()

    def rest_of(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Return the part of `frames` that is still to be published.

        If they do not begin with the published frames, that is the last of them.
        """
        published = len(self._frames)
        # The first frame is not compared: it holds the user's JSON, whose keys jsonb has reordered.
        pairs = list(zip(self._frames, frames, strict=False))[1:]
        same = all(ours == theirs for ours, theirs in pairs)
        return frames[published:] if same and published <= len(frames) else frames[-1:]

    def waits_after(self, frame: Frame) -> bool:
        """Return whether the turn waits for tool results after this, the last frame."""
        return self._waits and self._frames[-1] is frame

    def end(self) -> None:
        """End the stream: no frame follows."""
        self._ended = True
        self._wake()

    async def follow(self, after_seq: int = 0) -> AsyncGenerator[list[Frame]]:
        """Yield all frames after `after_seq` until the stream ends, up to 256 at a time.

        A reader ahead of the stream gets its last frame.
        """
        # A server that died may have sent this reader frames that it did not record.
        read = min(after_seq, max(len(self._frames) - 1, 0))
        while True:
            frames = self._frames[read : read + MAX_FRAMES_AT_ONCE]
            read += len(frames)
            if frames:
                yield frames
            elif self._ended:
                return
            else:
                await self._wait()

    async def _wait(self) -> None:
        if self._grown is None:
            self._grown = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._grown)

    def _wake(self) -> None:
        if self._grown is not None and not self._grown.done():
            self._grown.set_result(None)
        self._grown = None
