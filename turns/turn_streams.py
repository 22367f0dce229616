"""Streams of turns: the frames of any turn, wherever it runs, at any age."""

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from uuid import UUID

from eventlog.feeds.broadcast import Broadcast
from projections.progress import Progress
from turns.frames.frames import Frame
from turns.frames.live_stream import LiveStream
from turns.frames.replay import TurnKey, TurnReader
from turns.frames.tail import TurnTail
from turns.queue import TurnQueue
from turns.turn_runner import TurnRunner


class TurnStreams:
    """The streams of all turns, for the readers of this process."""

    def __init__(
        self, runner: TurnRunner, queue: TurnQueue, reader: TurnReader, broadcast: Broadcast, progress: Progress
    ) -> None:
        self._runner = runner
        self._queue = queue
        self._reader = reader
        self._broadcast = broadcast
        self._progress = progress
        self._tails: dict[UUID, TurnTail] = {}
        self._closed = False

    async def follow(
        self, key: TurnKey, after_seq: int = 0, *, to_the_end: bool = False
    ) -> AsyncGenerator[list[Frame]]:
        """Yield the frames of a turn after `after_seq`, until its last.

        They are live if the turn runs here, else they come from the log.

        Without `to_the_end` they end also where the turn waits for tool results, unless that is at `after_seq`. A
        store that is away is retried.
        """
        await self._queue.wait_until_started(key.turn_id)
        run = self._runner.get(key.turn_id)
        if run is not None:
            async for frames in _unseen(run.stream, after_seq):
                yield frames
                after_seq = frames[-1].seq
                if frames[-1].terminal or (run.stream.waits_after(frames[-1]) and not to_the_end):
                    return
        # A run may leave its turn open when the store stays away. Its end, by another process, is then in the log.
        with self._tailed(key) as stream:
            async for frames in _unseen(stream, after_seq):
                yield frames
                if stream.waits_after(frames[-1]) and not to_the_end:
                    return

    def close(self) -> None:
        """End the streams that are read from the log, because the server stops.

        Clients go on at another process.
        """
        self._closed = True
        self.restart()

    def restart(self) -> None:
        """End the streams from the log, because it has lost its end. Clients reconnect."""
        for tail in self._tails.values():
            tail.close()

    @contextmanager
    def _tailed(self, key: TurnKey) -> Generator[LiveStream]:
        """Yield the frames of a turn that does not run here. Its readers share them."""
        tail = self._tails.get(key.turn_id)
        if tail is None:
            tail = self._tails[key.turn_id] = TurnTail(self._reader, self._broadcast, self._progress, key)
        if self._closed:
            tail.close()
        tail.readers += 1
        try:
            yield tail.stream
        finally:
            tail.readers -= 1
            if not tail.readers:
                del self._tails[key.turn_id]
                tail.close()


async def _unseen(stream: LiveStream, after_seq: int) -> AsyncGenerator[list[Frame]]:
    """Yield the frames that a reader has not seen, and the last frame in any case."""
    async for frames in stream.follow(after_seq):
        if unseen := [frame for frame in frames if frame.seq > after_seq or frame.terminal]:
            yield unseen
