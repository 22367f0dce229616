"""A turn's live frames in the process that runs it: one list, read by any number of readers at their own speed."""

import asyncio
from asyncio import Future
from collections.abc import AsyncGenerator, Iterable, Sequence

from turns.frames.frames import Frame

MAX_FRAMES_AT_ONCE = 256
SHOWN_WAIT_S = 2.0
"""How long the end of a turn waits until the read models show it, so that who hears of it can read it."""


class LiveStream:
    """The frames of one running turn so far. A slow reader holds an index, not a buffer."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._waits = False
        self._ended = False
        self._grown: Future[None] | None = None

    def publish(self, frames: Iterable[Frame], *, waits: bool = False) -> None:
        """Add frames and wake the readers; after them the turn `waits` for tool results, or goes on."""
        self._frames.extend(frames)
        self._waits = waits
        self._wake()

    def continued_by(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Return what `frames` add to these, or where these are not their beginning, the last of them."""
        shown = len(self._frames)
        # How a turn begins is the same in any case, but jsonb orders the keys of what the user sent in its own way.
        pairs = list(zip(self._frames, frames, strict=False))[1:]
        same = all(ours == theirs for ours, theirs in pairs)
        return frames[shown:] if same and shown <= len(frames) else frames[-1:]

    def waits_after(self, frame: Frame) -> bool:
        """Return whether the turn waits for tool results after this frame: it is the last there is, for now."""
        return self._waits and self._frames[-1] is frame

    def end(self) -> None:
        """Say that no frame follows."""
        self._ended = True
        self._wake()

    async def follow(self, after_seq: int = 0) -> AsyncGenerator[list[Frame]]:
        """Yield all frames after `after_seq`, as many at once as there are (256 at most), until the turn's last.

        Who has seen frames that are no part of the turn, because a server died before it recorded them, gets its last.
        """
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
