"""A bell: what happens elsewhere in this process wakes one that waits for it, or for a while in case it is missed."""

import asyncio


class Bell:
    """Wakes whoever waits for it; a ring that nobody waits for is kept, and ends the next wait at once."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, or let the next wait return at once."""
        self._rung.set()

    async def rung(self, timeout_s: float) -> bool:
        """Return True when the bell has rung since this was last asked, or False after a while."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True
