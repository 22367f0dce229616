"""A bell: what happens elsewhere in this process wakes the one that waits for it, or a while in case it is missed."""

import asyncio
from asyncio import Future


class Bell:
    """Wakes the one who waits for it; a ring that nobody waits for is kept, and ends the next wait at once."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, or let the next wait return at once."""
        self._rung = True
        if self._waiter is not None:
            finish(self._waiter)

    async def rung(self, timeout_s: float) -> bool:
        """Return True when the bell has rung since this was last asked, or False after a while."""
        if not self._rung:
            assert self._waiter is None, "a bell wakes one"
            # Waited for hundreds of times a second; asyncio.timeout around an Event takes twice as long.
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, finish, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        rung, self._rung = self._rung, False
        return rung


def finish(waiter: Future[None]) -> None:
    """Wake who waits for this, unless somebody or something else has."""
    if not waiter.done():
        waiter.set_result(None)
