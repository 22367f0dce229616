"""Delta buffers: chunks are recorded after 40 ms or 1,024 characters."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import Any

from turns.frames.frames import Chunk

FLUSH_INTERVAL_S = 0.04
FLUSH_CHARACTERS = 1024
TICK_S = 0.008

Record = Callable[[list[dict[str, Any]]], Awaitable[None]]


class FlushClock:
    """Ticks at which all streams of a process are recorded, in few commits."""

    def __init__(self) -> None:
        self._due: dict[int, list[Callable[[], object]]] = {}

    def within(self, delay_s: float, act: Callable[[], object]) -> None:
        """Call `act` at the last tick within `delay_s`, with all others of that tick."""
        loop = asyncio.get_running_loop()
        tick = int((loop.time() + delay_s) / TICK_S)
        if tick not in self._due:
            self._due[tick] = []
            loop.call_at(tick * TICK_S, self._call_due, tick)
        self._due[tick].append(act)

    def _call_due(self, tick: int) -> None:
        loop = asyncio.get_running_loop()
        for act in self._due.pop(tick):
            # Each in a callback of its own, so that one that raises holds no other up.
            loop.call_soon(act)


class DeltaBuffer:
    """The chunks of one turn that were sent live and are not in the log yet.

    `record` gets the fields of one StreamDelta for each run of chunks of one block. An error of `record` ends the
    buffer, and `close` raises it.
    """

    def __init__(self, record: Record, clock: FlushClock) -> None:
        self._record = record
        self._clock = clock
        self._chunks: list[Chunk] = []
        self._size = 0
        self._due = asyncio.Event()
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="record-deltas")

    def on_failure(self, act: Callable[[], object]) -> None:
        """Call `act` when recording fails."""
        self._task.add_done_callback(lambda task: act() if task.cancelled() or task.exception() else None)

    def add(self, chunk: Chunk) -> None:
        """Add a chunk that was just sent."""
        if not self._chunks:
            self._clock.within(FLUSH_INTERVAL_S, self._due.set)
        self._chunks.append(chunk)
        self._size += len(chunk.text)
        if self._size >= FLUSH_CHARACTERS:
            self._due.set()

    async def close(self) -> list[dict[str, Any]]:
        """Wait for the recording under way, and return the fields of the other chunks.

        The caller records those with the end of the turn.
        """
        self._closed = True
        self._due.set()
        await self._task
        return self._take()

    async def _run(self) -> None:
        while not self._closed:
            await self._due.wait()
            self._due.clear()
            if not self._closed and (deltas := self._take()):
                await self._record(deltas)

    def _take(self) -> list[dict[str, Any]]:
        chunks, self._chunks, self._size = self._chunks, [], 0
        runs = (list(run) for _, run in groupby(chunks, key=lambda chunk: chunk.block_index))
        return [_fields(run) for run in runs]


def _fields(run: list[Chunk]) -> dict[str, Any]:
    first = run[0]
    return {
        "first_seq": first.seq,
        "block_index": first.block_index,
        "block_type": first.block_type,
        "first_delta_index": first.delta_index,
        "chunks": tuple(chunk.text for chunk in run),
    }
