"""Large request bodies while they arrive, and the limit of their memory.

The bodies are kept in anonymous memory maps. Small pieces on Python's heap would keep the process at its largest size.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from api.http.problems import BAD_REQUEST, RETRY_AFTER, SERVER_BUSY, ProblemError

SEGMENT_BYTES = 256 * 1024
MAX_HELD_BYTES = 128 * 1024 * 1024
STALLED_S = 1.0
WAIT_S = 5.0


def client_disconnected() -> ProblemError:
    """Return the problem of a request whose client has disconnected."""
    return ProblemError(BAD_REQUEST, "The request broke off.")


class ArrivingBody:
    """A body that is not complete yet.

    `hang_up` closes the connection of its client. None means that this is not possible.
    """

    def __init__(self, memory: "BodyMemory", hang_up: Callable[[], None] | None) -> None:
        self.received_at = asyncio.get_running_loop().time()
        self.waiting = False
        self._memory = memory
        self._hang_up = hang_up
        self._segments: list[mmap] = []
        self._used = SEGMENT_BYTES  # of the last segment
        self._dropped = False

    @property
    def droppable(self) -> bool:
        """Whether it holds memory, and waits for its client and not for memory."""
        return self._hang_up is not None and bool(self._segments) and not self.waiting

    async def add(self, piece: bytes) -> None:
        """Append a piece that has arrived.

        Raises:
            ProblemError: there is no memory for it, or the body was dropped.
        """
        self.received_at = asyncio.get_running_loop().time()
        left = memoryview(piece)
        while left:
            if self._dropped:
                raise client_disconnected()
            if self._used == SEGMENT_BYTES:
                self._segments.append(await self._memory.take(self))
                self._used = 0
            size = min(len(left), SEGMENT_BYTES - self._used)
            self._segments[-1][self._used : self._used + size] = left[:size]
            self._used += size
            left = left[size:]

    def content(self) -> bytes:
        """Return all pieces joined."""
        return b"".join([*self._segments[:-1], *(last[: self._used] for last in self._segments[-1:])])

    def drop(self) -> None:
        """Close the client's connection, and return the memory at once."""
        self._dropped = True
        if self._hang_up is not None:
            self._hang_up()
        self.close()

    def close(self) -> None:
        """Return the memory."""
        for segment in self._segments:
            segment.close()
        self._memory.free(len(self._segments))
        self._segments.clear()
        self._used = SEGMENT_BYTES


class BodyMemory:
    """The memory for all large bodies that arrive at a process.

    When it is used up, a body waits until another one is complete, or until one has received nothing for `stalled_s`,
    which is then dropped. So clients that send half a body and stop cannot keep others from sending a whole one.
    """

    def __init__(
        self, max_bytes: int = MAX_HELD_BYTES, *, stalled_s: float = STALLED_S, wait_s: float = WAIT_S
    ) -> None:
        self._free = max_bytes // SEGMENT_BYTES
        self._stalled_s = stalled_s
        self._wait_s = wait_s
        self._bodies: set[ArrivingBody] = set()
        self._freed = asyncio.Event()

    @contextmanager
    def arriving(self, hang_up: Callable[[], None] | None) -> Generator[ArrivingBody]:
        """Yield an empty body, and return its memory at the end of the block."""
        body = ArrivingBody(self, hang_up)
        self._bodies.add(body)
        try:
            yield body
        finally:
            self._bodies.discard(body)
            body.close()

    async def take(self, body: ArrivingBody) -> mmap:
        """Return the next segment for a body.

        Raises:
            ProblemError: no segment has become free in `wait_s`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s
        body.waiting = True
        try:
            while not self._free:
                others = [other for other in self._bodies if other.droppable]
                stalest = min(others, key=lambda other: other.received_at, default=None)
                stalled_at = stalest.received_at + self._stalled_s if stalest else deadline
                if stalest is not None and stalled_at <= loop.time():
                    stalest.drop()
                elif loop.time() >= deadline:
                    raise _busy()
                else:
                    await self._wait_until(min(stalled_at, deadline))
            segment = mmap(-1, SEGMENT_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        except OSError as error:
            raise _busy() from error
        finally:
            body.waiting = False
            body.received_at = loop.time()  # the wait was for memory, so the client has not stalled
        self._free -= 1
        return segment

    def free(self, segments: int) -> None:
        """Take back that many segments."""
        self._free += segments
        self._freed.set()

    async def _wait_until(self, when: float) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self._freed.wait()


def _busy() -> ProblemError:
    detail = "Too many large requests are being received at once."
    return ProblemError(SERVER_BUSY, detail, headers=RETRY_AFTER)
