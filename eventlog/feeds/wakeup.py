"""A wakeup ends the wait of one task in this process."""

import asyncio
from asyncio import Future


class Wakeup:
    """Wakes the one task that waits for it.

    A `set` without a waiting task ends the next wait at once.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: Future[None] | None = None

    def set(self) -> None:
        """Wake the waiting task, or let the next wait return at once."""
        self._is_set = True
        if self._waiter is not None:
            resolve(self._waiter)

    async def wait(self, timeout_s: float) -> bool:
        """Return True if `set` was called since the last wait, or False after `timeout_s`."""
        if not self._is_set:
            assert self._waiter is None, "only one task may wait"
            # This runs hundreds of times a second. asyncio.timeout around an asyncio.Event takes twice as long.
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, resolve, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        was_set, self._is_set = self._is_set, False
        return was_set


def resolve(waiter: Future[None]) -> None:
    """Set the result of `waiter`, unless it is done already."""
    if not waiter.done():
        waiter.set_result(None)
