"""Deletion of many conversations, at a pace that leaves time for other commands."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from commands.commands import Caller, Commands
from domain.errors import ConversationDeletedError, ConversationNotFoundError
from eventlog.background import cancel_and_wait
from eventlog.errors import StoreUnavailableError

CHUNK = 16
"""The conversations that are deleted together. They share reads, commits and batches of projections."""


class Cleared(NamedTuple):
    """The number of deleted conversations, and the position of the last deletion.

    The position is None if nothing was deleted.
    """

    deleted: int
    position: int | None


class Clearing:
    """Deletes many conversations, each by a command of its own.

    Deleted conversations stay deleted where the rest fails, and a repeated call deletes the rest. All calls of this
    process together delete one chunk after another. `settle` waits until the read models show a position.
    """

    def __init__(self, commands: Commands, settle: Callable[[int], Awaitable[object]]) -> None:
        self._commands = commands
        self._settle = settle
        self._turn = asyncio.Lock()
        self._closed = False

    async def clear(self, caller: Caller, pages: AsyncIterable[Sequence[UUID]]) -> Cleared:
        """Delete the caller's conversations of all pages.

        Conversations that are deleted already, also by another call meanwhile, do not count.

        Raises:
            StoreUnavailableError: the database does not answer, or the server is being stopped.
        """
        positions: list[int] = []
        async for ids in pages:
            for start in range(0, len(ids), CHUNK):
                async with self._turn:
                    positions += await self._delete_chunk(caller, ids[start : start + CHUNK])
        return Cleared(len(positions), max(positions, default=None))

    def close(self) -> None:
        """Stop all calls before their next chunk."""
        self._closed = True

    async def _delete_chunk(self, caller: Caller, ids: Sequence[UUID]) -> list[int]:
        if self._closed:
            raise StoreUnavailableError("The server is being stopped.")
        began = monotonic()
        await self._commands.executor.preload(ids)
        deletes = [asyncio.create_task(self._delete(caller, id_), name="clearing") for id_ in ids]
        try:
            found = await asyncio.gather(*deletes)
        finally:
            await cancel_and_wait(deletes)
            # Deleted states are of no use, and would drive those of other conversations out of the cache.
            self._commands.executor.discard(ids)
        positions = [position for position in found if position]
        if positions:
            # Deletions that ran ahead of the read models would delay every other write, which waits for them.
            await self._settle(max(positions))
        # Half of the time belongs to the others. A busy server makes both halves longer.
        await asyncio.sleep(monotonic() - began)
        return positions

    async def _delete(self, caller: Caller, conversation_id: UUID) -> int | None:
        try:
            return (await self._commands.delete(caller, conversation_id)).position
        except (ConversationDeletedError, ConversationNotFoundError):
            return None
