"""Large bodies of requests while they arrive: together they hold so much memory at most, and it is given back at once.

They are kept in pages of the operating system's: small pieces on Python's heap would leave it as large as it ever was.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from api.http.problems import BAD_REQUEST, RETRY_AFTER, ProblemError, ProblemKind

SEGMENT_BYTES = 256 * 1024
MAX_HELD_BYTES = 128 * 1024 * 1024
STALLED_S = 1.0
WAIT_S = 5.0

_SERVER_BUSY = ProblemKind(503, "SERVER_BUSY")


def broken_off() -> ProblemError:
    """Return the problem of a request whose client has gone; nobody reads it."""
    return ProblemError(BAD_REQUEST, "The request broke off.")


class ArrivingBody:
    """A body that is not whole yet; `hang_up` ends the connection that it comes from, where that can be done."""

    def __init__(self, room: "BodyRoom", hang_up: Callable[[], None] | None) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        self.waiting = False
        self._room = room
        self._hang_up = hang_up
        self._segments: list[mmap] = []
        self._used = SEGMENT_BYTES  # of the last segment
        self._given_up = False

    @property
    def can_be_given_up(self) -> bool:
        """Tell whether it holds room, and its client may be the one that it waits for."""
        return self._hang_up is not None and bool(self._segments) and not self.waiting

    async def add(self, piece: bytes) -> None:
        """Append what has arrived.

        Raises:
            ProblemError: there is no room for it, or it was given up.
        """
        self.heard_at = asyncio.get_running_loop().time()
        left = memoryview(piece)
        while left:
            if self._given_up:
                raise broken_off()
            if self._used == SEGMENT_BYTES:
                self._segments.append(await self._room.take(self))
                self._used = 0
            size = min(len(left), SEGMENT_BYTES - self._used)
            self._segments[-1][self._used : self._used + size] = left[:size]
            self._used += size
            left = left[size:]

    def whole(self) -> bytes:
        """Return all that was added."""
        return b"".join([*self._segments[:-1], *(last[: self._used] for last in self._segments[-1:])])

    def give_up(self) -> None:
        """Hang up on the client, and make room at once."""
        self._given_up = True
        if self._hang_up is not None:
            self._hang_up()
        self.close()

    def close(self) -> None:
        """Give the memory back."""
        for segment in self._segments:
            segment.close()
        self._room.free(len(self._segments))
        self._segments.clear()
        self._used = SEGMENT_BYTES


class BodyRoom:
    """The room for all large bodies that arrive at a process.

    Where it is used up, a body waits until another is whole, or until one has been silent for so long that its client
    may be hung up on: of many clients that send half a body and no more, none keeps others from sending a whole one.
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
        """Give a body that is empty, and its memory back at the end."""
        body = ArrivingBody(self, hang_up)
        self._bodies.add(body)
        try:
            yield body
        finally:
            self._bodies.discard(body)
            body.close()

    async def take(self, body: ArrivingBody) -> mmap:
        """Return room for a further segment of a body.

        Raises:
            ProblemError: there is none, and none has come free in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s
        body.waiting = True
        try:
            while not self._free:
                others = [other for other in self._bodies if other.can_be_given_up]
                stalest = min(others, key=lambda other: other.heard_at, default=None)
                stalled_at = stalest.heard_at + self._stalled_s if stalest else deadline
                if stalest is not None and stalled_at <= loop.time():
                    stalest.give_up()
                elif loop.time() >= deadline:
                    raise _busy()
                else:
                    await self._wait_until(min(stalled_at, deadline))
            segment = mmap(-1, SEGMENT_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        except OSError as error:
            raise _busy() from error
        finally:
            body.waiting = False
            body.heard_at = loop.time()  # it was not the client that was silent
        self._free -= 1
        return segment

    def free(self, segments: int) -> None:
        """Take room back."""
        self._free += segments
        self._freed.set()

    async def _wait_until(self, when: float) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self._freed.wait()


def _busy() -> ProblemError:
    detail = "Too many large requests are being received at once."
    return ProblemError(_SERVER_BUSY, detail, headers=RETRY_AFTER)
