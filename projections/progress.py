"""How far the projections have come, as this process knows it, and waiting until they have come further."""

import asyncio
import heapq
from asyncio import Future
from collections.abc import Iterable
from itertools import count

from eventlog.wakeup import resolve


class Progress:
    """Positions of the serving projections; a stopped one is waited for by nobody.

    `wait` costs one future; positions may only grow, so a waiter is woken once, by the projection that was last.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.positions: dict[str, int] = dict.fromkeys(names, 0)
        self.stopped: set[str] = set()
        self._waiters: list[tuple[int, int, Future[None]]] = []
        self._ticket = count()
        self._reached = self._least()

    def advance(self, positions: dict[str, int]) -> None:
        """Take news of positions; older ones, and those of projections that are not served here, change nothing."""
        for name, position in positions.items():
            if name in self.positions:
                self.positions[name] = max(position, self.positions[name])
        self._wake()

    def restart(self, name: str, position: int) -> None:
        """Take the position at which a projection was found: a crash of PostgreSQL may have set it back."""
        self.positions[name] = position
        self._wake()

    def forget(self) -> None:
        """Believe no position that is known: the log, and the read models with it, may have lost their end."""
        self.positions = dict.fromkeys(self.positions, 0)
        self._wake()

    def set_stopped(self, stopped: set[str], *, of: Iterable[str]) -> None:
        """Say which of the projections named in `of` an error has stopped; nobody waits for them any longer."""
        stopped = self.stopped.difference(of) | stopped
        if stopped != self.stopped:
            self.stopped = stopped
            self._wake()

    def behind(self, position: int) -> list[str]:
        """Return the names of the projections that have not reached `position`."""
        return [name for name, reached in self.positions.items() if reached < position]

    async def wait(self, position: int, timeout_s: float) -> list[str]:
        """Wait until every running projection has reached `position`; return the names of those that have not.

        A read of what was recorded up to `position` is complete unless it asks one of the returned projections.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        # Positions may have been forgotten between the wake-up of a waiter and its turn to run, so it looks again.
        while self._reached < position and loop.time() < deadline:
            done: Future[None] = loop.create_future()
            heapq.heappush(self._waiters, (position, next(self._ticket), done))
            expiry = loop.call_at(deadline, resolve, done)
            await done
            expiry.cancel()
            if self._reached < position:
                self._forget_expired()
        return self.behind(position)

    def _least(self) -> float:
        """Return what every running projection has reached."""
        running = [position for name, position in self.positions.items() if name not in self.stopped]
        return min(running, default=float("inf"))

    def _forget_expired(self) -> None:
        self._waiters = [waiter for waiter in self._waiters if not waiter[2].done()]
        heapq.heapify(self._waiters)

    def _wake(self) -> None:
        self._reached = self._least()
        while self._waiters and self._waiters[0][0] <= self._reached:
            resolve(heapq.heappop(self._waiters)[2])
