"""A turn as this process finds it in the log: one reading for everybody here who follows it, live to its end."""

import asyncio
from uuid import UUID

from eventlog.broadcast import Broadcast
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from eventlog.mapper import Recorded
from projections.progress import Progress
from turns.stream import SHOWN_WAIT_S, TurnStream
from turns.turn_log import TurnKey, TurnReplay

FIRST_PAGE_EVENTS = 100
PAGE_EVENTS = 1000
POLL_INTERVAL_S = 1.0


class TurnTail:
    """Follows a turn that another process runs, or that has ended; `stream` has its frames.

    Recorded events are read from the table in pages, then heard from the broadcast, and joined by their versions.
    """

    def __init__(self, log: Log, broadcast: Broadcast, progress: Progress, key: TurnKey) -> None:
        self.stream = TurnStream()
        self.readers = 0
        self._log = log
        self._broadcast = broadcast
        self._progress = progress
        self._conversation_id: UUID = key.conversation_id
        self._replay = TurnReplay(key.turn_id, key.first_version)
        self._heard: list[Recorded] = []
        self._bell = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"tail {key.turn_id}")

    def close(self) -> None:
        """Stop, as nobody follows any longer."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            with self._broadcast.heard(self._conversation_id, self._hear):
                while not self._replay.ended:
                    await self._read()
                    await self._listen()
        finally:
            self.stream.end()

    async def _read(self) -> None:
        """Take what the table has."""
        size = FIRST_PAGE_EVENTS
        while not self._replay.ended:
            try:
                page = await self._log.events(self._conversation_id, self._replay.next_version, limit=size)
            except StoreUnavailableError:
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            await self._take(page)
            if len(page) < size:
                return
            size = PAGE_EVENTS

    async def _listen(self) -> None:
        """Take what is heard, until something was missed or nothing came for a while."""
        while not self._replay.ended:
            try:
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._bell.wait()
            except TimeoutError:
                return
            self._bell.clear()
            heard, self._heard = self._heard, []
            new = [item for item in heard if item.event.originator_version >= self._replay.next_version]
            if new and new[0].event.originator_version > self._replay.next_version:
                return
            await self._take(new)

    async def _take(self, events: list[Recorded]) -> None:
        frames = self._replay.take(events)
        if self._replay.ended:
            # Who hears of the end can read it.
            await self._progress.wait(self._replay.position, SHOWN_WAIT_S)
        self.stream.publish(frames)

    def _hear(self, item: Recorded) -> None:
        self._heard.append(item)
        self._bell.set()
