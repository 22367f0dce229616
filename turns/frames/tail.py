"""The frames of a turn from the log, read once for all readers of this process."""

import asyncio
import logging
from contextvars import Context

from eventlog.errors import LogError, StoreUnavailableError
from eventlog.feeds.broadcast import Broadcast
from eventlog.feeds.wakeup import Wakeup
from eventlog.mapper import Recorded
from eventlog.retry import equal_pauses, retry
from projections.progress import Progress
from turns.frames.frames import Frame
from turns.frames.live_stream import SHOWN_WAIT_S, LiveStream
from turns.frames.replay import TurnKey, TurnReader, TurnReplay

FIRST_PAGE_EVENTS = 100
PAGE_EVENTS = 1000
POLL_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


class TurnTail:
    """Follows a turn that another process runs, or that has ended.

    `stream` has its frames. Recorded events are read from the table in pages, then received from the broadcast, and
    joined by their versions.
    """

    def __init__(self, reader: TurnReader, broadcast: Broadcast, progress: Progress, key: TurnKey) -> None:
        self.stream = LiveStream()
        self.readers = 0
        self._reader = reader
        self._broadcast = broadcast
        self._progress = progress
        self._key = key
        self._received: list[Recorded] = []
        self._wakeup = Wakeup()
        # All readers share it, so it has not the context of the first one's request.
        self._task = asyncio.create_task(self._run(), name=f"tail {key.turn_id}", context=Context())

    def close(self) -> None:
        """Stop, because no reader is left or this process ends."""
        self._task.cancel()
        self.stream.end()  # a task that is cancelled before it has begun does not do it

    async def _run(self) -> None:
        try:
            with self._broadcast.subscribed(self._key.conversation_id, self._receive):
                replay = await self._retried_begin()
                while not replay.ended:
                    await self._read_table(replay)
                    await self._take_received(replay)
        except LogError as error:
            _log.error("turn %s cannot be followed: %s", self._key.turn_id, error)
        finally:
            self.stream.end()

    async def _retried_begin(self) -> TurnReplay:
        pauses = equal_pauses(POLL_INTERVAL_S)
        return await retry(lambda: self._reader.begin(self._key), StoreUnavailableError, pauses)

    async def _read_table(self, replay: TurnReplay) -> None:
        """Publish the frames of the events in the table."""
        frames: list[Frame] = []
        size, more = FIRST_PAGE_EVENTS, True
        while more and not replay.ended:
            read, more = await self._retried_read(replay, size)
            frames += read
            size = PAGE_EVENTS
            if not (more and replay.waits):  # the next page may say that it waits no longer
                await self._publish(replay, frames)
                frames = []

    async def _retried_read(self, replay: TurnReplay, limit: int) -> tuple[list[Frame], bool]:
        pauses = equal_pauses(POLL_INTERVAL_S)
        return await retry(lambda: self._reader.read(self._key, replay, limit=limit), StoreUnavailableError, pauses)

    async def _take_received(self, replay: TurnReplay) -> None:
        """Publish the frames of received events, until one is missing or none comes."""
        while not replay.ended:
            if not await self._wakeup.wait(POLL_INTERVAL_S):
                return
            received, self._received = self._received, []
            new = [item for item in received if item.event.originator_version >= replay.next_version]
            if new and new[0].event.originator_version > replay.next_version:
                return
            try:
                frames = await self._reader.take(self._key, replay, new)
            except StoreUnavailableError:
                return
            await self._publish(replay, frames)

    async def _publish(self, replay: TurnReplay, frames: list[Frame]) -> None:
        if any(frame.terminal or frame.pauses for frame in frames):
            # A client that receives the end can then read the turn.
            await self._progress.wait(replay.position, SHOWN_WAIT_S)
        self.stream.publish(frames, waits=replay.waits)

    def _receive(self, item: Recorded) -> None:
        self._received.append(item)
        self._wakeup.set()
