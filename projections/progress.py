"""Progress: the known positions of the projections, and waiting for one."""

import asyncio
import heapq
from asyncio import Future
from collections.abc import Iterable
from itertools import count

from eventlog.feeds.wakeup import resolve


class Progress:
    """The positions of the projections that this process serves.

    A wait does not include projections that an error has stopped.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.positions: dict[str, int] = dict.fromkeys(names, 0)
        self.stopped: set[str] = set()
        # A wait costs one future. It is woken once, by the last projection that reaches its position.
        self._waiters: list[tuple[int, int, Future[None]]] = []
        self._ticket = count()
        # Waits for one projection are few. Each change wakes all of them.
        self._single_waiters: set[Future[None]] = set()
        self._reached = self._lowest()

    def advance(self, positions: dict[str, int]) -> None:
        """Raise positions. Lower ones and those of unknown projections are ignored."""
        for name, position in positions.items():
            if name in self.positions:
                self.positions[name] = max(position, self.positions[name])
        self._wake()

    def restart(self, name: str, position: int) -> None:
        """Set the position of a projection, which may be lower than before."""
        # A crash of PostgreSQL may have set it back.
        self.positions[name] = position
        self._wake()

    def forget(self) -> None:
        """Set all positions to 0."""
        # The log, and the read models with it, may have lost their end.
        self.positions = dict.fromkeys(self.positions, 0)
        self._wake()

    def set_stopped(self, stopped: set[str], *, of: Iterable[str]) -> None:
        """Set which of the projections in `of` an error has stopped."""
        stopped = self.stopped.difference(of) | stopped
        if stopped != self.stopped:
            self.stopped = stopped
            self._wake()

    def behind(self, position: int) -> list[str]:
        """Return the names of the projections that have not reached `position`."""
        return [name for name, reached in self.positions.items() if reached < position]

    async def wait(self, position: int, timeout_s: float) -> list[str]:
        """Wait for `position`, and return the projections that have not reached it.

        A read of a projection that is not returned sees all events up to `position`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        # Positions may have been forgotten between the wake-up of this task and its next step, so it checks again.
        while self._reached < position and loop.time() < deadline:
            done: Future[None] = loop.create_future()
            heapq.heappush(self._waiters, (position, next(self._ticket), done))
            expiry = loop.call_at(deadline, resolve, done)
            await done
            expiry.cancel()
            if self._reached < position:
                self._forget_expired()
        return self.behind(position)

    async def wait_for(self, name: str, position: int, timeout_s: float) -> bool:
        """Wait until one projection has reached `position`, and return whether it has.

        There is no wait for one that an error has stopped.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.positions[name] < position and name not in self.stopped and loop.time() < deadline:
            changed: Future[None] = loop.create_future()
            self._single_waiters.add(changed)
            expiry = loop.call_at(deadline, resolve, changed)
            try:
                await changed
            finally:
                expiry.cancel()
                self._single_waiters.discard(changed)
        return self.positions[name] >= position

    def _lowest(self) -> float:
        """Return the lowest position of the running projections."""
        running = [position for name, position in self.positions.items() if name not in self.stopped]
        return min(running, default=float("inf"))

    def _forget_expired(self) -> None:
        self._waiters = [waiter for waiter in self._waiters if not waiter[2].done()]
        heapq.heapify(self._waiters)

    def _wake(self) -> None:
        self._reached = self._lowest()
        while self._waiters and self._waiters[0][0] <= self._reached:
            resolve(heapq.heappop(self._waiters)[2])
        for changed in self._single_waiters:
            resolve(changed)
