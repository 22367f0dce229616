"""Seals the log as it grows: stores heads of the Merkle tree over its digests."""

import asyncio
from time import monotonic

from audit.errors import LogDamagedError
from audit.seals.sealed_tree import add_head, read_digests, read_tree
from eventlog.background import Background
from eventlog.db.connection import translated_errors
from eventlog.db.database import Database
from eventlog.feeds.feed import Feed
from eventlog.log import read_head
from projections.advisory_locks import try_lock

HEAD_EVENTS = 10_000
HEAD_INTERVAL_S = 60.0
POLL_S = 1.0
READ_EVENTS = 500
"""So many digests take less than a millisecond, in which the event loop does nothing else."""


def sealing_lock(schema: str) -> str:
    """Return the lock of the process that seals a log at the moment."""
    return f"{schema}:seals"


class Sealer:
    """Seals one log, together with the sealers of other processes.

    A head is due after `head_events` events, and after `interval_s` seconds if there is any event. The process that
    notices first takes a lock, reads the stored tree, appends the new digests, and stores tree and head. It keeps
    nothing in between, so a sealer that dies leaves nothing to take over.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        head_events: int = HEAD_EVENTS,
        interval_s: float = HEAD_INTERVAL_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._database = database
        self._feed = feed
        self._head_events = head_events
        self._interval_s = interval_s
        self._poll_s = poll_s
        self._sealed = 0
        self._sealed_at = monotonic()
        self._background = Background()

    async def open(self) -> None:
        """Start to seal."""
        self._background.keep("sealer", self._run)

    async def close(self) -> None:
        """Stop. Another process, or the next one, seals what is left."""
        await self._background.close()

    async def seal(self) -> int:
        """Seal the events of which a head is due, and return the number of sealed events.

        If another process is sealing, return the number that this process knows.

        Raises:
            LogDamagedError: the log is not whole, or is not as it was sealed.
            StoreUnavailableError: the database does not answer.
        """
        async with await self._database.connect() as connection:
            with translated_errors():
                if not await try_lock(connection, sealing_lock(self._database.schema)):
                    return self._sealed
                tree, head = (await read_tree(connection)).tree, await read_head(connection)
                if tree.size > head:
                    raise LogDamagedError(f"The log ends at position {head}, but {tree.size} events are sealed.")
                self._set_sealed(tree.size)
                while self._is_due(head):
                    upto = min(tree.size - tree.size % self._head_events + self._head_events, head)
                    while tree.size < upto:
                        tree.extend(await read_digests(connection, tree.size, min(tree.size + READ_EVENTS, upto)))
                    if not await add_head(connection, self._sealed, tree):
                        break
                    self._set_sealed(tree.size)
        return self._sealed

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if self._is_due(self._feed.head):
                await self.seal()

    def _is_due(self, head: int) -> bool:
        unsealed = head - self._sealed
        # After a restore the log may end before what this process knows as sealed. It reads the stored tree again then.
        if unsealed < 0 or unsealed >= self._head_events:
            return True
        return unsealed > 0 and monotonic() - self._sealed_at >= self._interval_s

    def _set_sealed(self, size: int) -> None:
        if size != self._sealed:
            self._sealed, self._sealed_at = size, monotonic()
