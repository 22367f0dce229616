"""A turn's live frames in the process that runs it: one list, read by any number of readers at their own speed."""

import asyncio
from asyncio import Future
from collections.abc import AsyncGenerator, Iterable

from turns.frames import Frame


class TurnStream:
    """The frames of one running turn so far. A slow reader holds an index, not a buffer."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._ended = False
        self._grown: Future[None] | None = None

    def publish(self, frames: Iterable[Frame]) -> None:
        """Add frames and wake the readers."""
        self._frames.extend(frames)
        self._wake()

    def end(self) -> None:
        """Say that no frame follows."""
        self._ended = True
        self._wake()

    async def follow(self, after_seq: int = 0) -> AsyncGenerator[list[Frame]]:
        """Yield all frames after `after_seq`, as many at once as there are, until the turn's last."""
        read = after_seq
        while True:
            frames = self._frames[read:]
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
