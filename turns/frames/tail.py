"""A turn as this process finds it in the log: one reading for everybody here who follows it, live to its end."""

import asyncio
import logging

from eventlog.broadcast import Broadcast
from eventlog.errors import LogError, StoreUnavailableError
from eventlog.mapper import Recorded
from eventlog.wakeup import Wakeup
from projections.progress import Progress
from turns.frames.frames import Frame
from turns.frames.live_stream import SHOWN_WAIT_S, LiveStream
from turns.frames.replay import TurnKey, TurnReader, TurnReplay

FIRST_PAGE_EVENTS = 100
PAGE_EVENTS = 1000
POLL_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


class TurnTail:
    """Follows a turn that another process runs, or that has ended; `stream` has its frames.

    Recorded events are read from the table in pages, then heard from the broadcast, and joined by their versions.
    """

    def __init__(self, reader: TurnReader, broadcast: Broadcast, progress: Progress, key: TurnKey) -> None:
        self.stream = LiveStream()
        self.readers = 0
        self._reader = reader
        self._broadcast = broadcast
        self._progress = progress
        self._key = key
        self._heard: list[Recorded] = []
        self._wakeup = Wakeup()
        self._task = asyncio.create_task(self._run(), name=f"tail {key.turn_id}")

    def close(self) -> None:
        """Stop, as nobody follows any longer, or this process ends."""
        self._task.cancel()
        self.stream.end()  # which a task that is cancelled before it has begun does not do

    async def _run(self) -> None:
        try:
            with self._broadcast.subscribed(self._key.conversation_id, self._hear):
                replay = await self._begin()
                while not replay.ended:
                    await self._read(replay)
                    await self._listen(replay)
        except LogError as error:
            _log.error("turn %s cannot be followed: %s", self._key.turn_id, error)
        finally:
            self.stream.end()

    async def _begin(self) -> TurnReplay:
        while True:
            try:
                return await self._reader.begin(self._key)
            except StoreUnavailableError:
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _read(self, replay: TurnReplay) -> None:
        """Take what the table has."""
        size, more = FIRST_PAGE_EVENTS, True
        frames: list[Frame] = []
        while more and not replay.ended:
            try:
                read, more = await self._reader.read(self._key, replay, limit=size)
            except StoreUnavailableError:
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            frames += read
            size = PAGE_EVENTS
            if not (more and replay.waits):  # else the next page may say that it waits no longer
                await self._show(replay, frames)
                frames = []

    async def _listen(self, replay: TurnReplay) -> None:
        """Take what is heard, until something was missed or nothing came for a while."""
        while not replay.ended:
            if not await self._wakeup.wait(POLL_INTERVAL_S):
                return
            heard, self._heard = self._heard, []
            new = [item for item in heard if item.event.originator_version >= replay.next_version]
            if new and new[0].event.originator_version > replay.next_version:
                return
            try:
                frames = await self._reader.take(self._key, replay, new)
            except StoreUnavailableError:
                return
            await self._show(replay, frames)

    async def _show(self, replay: TurnReplay, frames: list[Frame]) -> None:
        if any(frame.terminal or frame.pauses for frame in frames):
            # Who hears of the end can read it.
            await self._progress.wait(replay.position, SHOWN_WAIT_S)
        self.stream.publish(frames, waits=replay.waits)

    def _hear(self, item: Recorded) -> None:
        self._heard.append(item)
        self._wakeup.set()
