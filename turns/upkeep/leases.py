"""Leases: a process of a log shows the others which turns it runs.

Events in the log lock a conversation. A lease only says which process runs or holds a turn. Leases expire by the
database's clock.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

from domain.errors import DomainError, LimitReachedError
from eventlog.background import Background
from eventlog.clock import new_id
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import IdempotencyKeyTakenError, StoreUnavailableError
from eventlog.feeds.wakeup import Wakeup
from eventlog.lock_table import LockTable
from turns.upkeep.expired_leases import LATEST_EXPIRY_S, LONGEST_LEASE_S, ExpiredLeases, Recover

LEASE_S = 6.0
RENEW_INTERVAL_S = 2.0
RETRY_AFTER_S = 1
CLIENT_LEASE_S = LONGEST_LEASE_S

_SQL = load_statements("turns.upkeep", "leases.sql")
_log = logging.getLogger(__name__)


Acquire = Callable[[str | None], Awaitable[None]]
"""Acquires a lease for an owner whose turn is to run, or with None for a turn that is queued."""


class _Held(NamedTuple):
    """A lease that this process renews.

    `runs_for` is the owner whose limit it counts against.
    """

    conversation_id: UUID
    runs_for: str | None


class Leases:
    """The leases of this process, renewed every two seconds.

    With `running_limit`, an owner has at most so many leases of turns that run, in all processes.
    """

    def __init__(self, database: Database, running_limit: int | None = None) -> None:
        self._database = database
        self._running_limit = running_limit
        self._holder = new_id()
        self._held: dict[UUID, _Held] = {}
        self._renewal = Wakeup()
        self._dropped: set[UUID] = set()
        self._writing = asyncio.Lock()
        self._starting = LockTable[str]()
        self._background = Background()

    async def open(self, recover: Recover) -> None:
        """Start to renew leases, and to look for expired leases of any process.

        `recover` is called with the conversation and the turn of each expired lease. Several processes may find the
        same one, so a second call must do no harm.
        """
        self._background.keep("leases", self._keep_renewing)
        self._background.keep("expired-leases", ExpiredLeases(self._database, recover, self).watch)

    async def close(self) -> None:
        """Stop, and delete the leases that were dropped."""
        await self._background.close()
        try:
            await self._renew()
        except StoreUnavailableError as error:
            _log.warning("leases are left to expire: %s", error)

    async def acquire(self, conversation_id: UUID, turn_id: UUID, runs_for: str | None = None) -> None:
        """Hold the lease of a turn.

        Call this before the turn is recorded, so that no turn is without a lease. `runs_for` is the owner of a turn
        that is to run, None for a turn that is queued.

        Raises:
            LimitReachedError: the owner has as many running turns as it may.
            StoreUnavailableError: the database does not answer.
        """
        held = _Held(conversation_id, None if self._running_limit is None else runs_for)
        if held.runs_for is None:
            async with self._writing:
                await self._acquire(turn_id, held)
        else:
            # All owners share `_writing`. An owner that floods its limit has one start in that line at a time.
            async with self._starting.hold(held.runs_for), self._writing:
                await self._acquire_within_limit(turn_id, held, held.runs_for)
        self._hold(turn_id, held)

    async def take_over(self, turn_id: UUID) -> bool:
        """Hold an expired lease, and return True, unless another process was faster.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        parameters = {"holder": self._holder, "seconds": LEASE_S, "turn_id": turn_id}
        async with self._writing:
            row = await self._database.fetch_one(_SQL["take_over"], parameters)
        if row is None:
            return False
        self._hold(turn_id, _Held(row[0], None))
        return True

    async def claim(self, turn_id: UUID) -> bool:
        """Take an expired lease to recover its turn.

        Return False if another process was faster.

        The lease is not renewed. If the turn is not recovered in that time, any process may claim it.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        parameters = {"holder": self._holder, "seconds": LEASE_S, "turn_id": turn_id, "latest_s": LATEST_EXPIRY_S}
        async with self._writing:
            return bool(await self._database.fetch(_SQL["claim"], parameters))

    def settle(self, turn_id: UUID) -> None:
        """Give a claimed lease up, unless its turn waits in this process now."""
        if turn_id not in self._held:
            self.drop(turn_id)

    async def release(self, turn_id: UUID) -> None:
        """Let another process take a lease over at once.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        self._held.pop(turn_id, None)
        async with self._writing:
            await self._database.fetch(_SQL["release"], {"turn_id": turn_id, "holder": self._holder})

    async def extend_for_client(self, conversation_id: UUID, turn_id: UUID) -> None:
        """Keep a turn whose client runs the model open for another 60 s.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        self._held.pop(turn_id, None)
        ids = {"turn_id": turn_id, "conversation_id": conversation_id}
        async with self._writing:
            parameters = {**ids, "holder": self._holder, "seconds": CLIENT_LEASE_S}
            await self._database.fetch(_SQL["extend_for_client"], parameters)

    def drop(self, turn_id: UUID) -> None:
        """Delete a lease with the next renewal, because the turn ended or never began."""
        self._held.pop(turn_id, None)
        self._dropped.add(turn_id)
        if self._running_limit is not None:
            self._renewal.set()  # other processes count it until then

    def let_expire(self, turn_id: UUID) -> None:
        """Stop renewing a lease, so that the process that finds it expired ends the turn."""
        self._held.pop(turn_id, None)

    @asynccontextmanager
    async def starting(self, conversation_id: UUID, turn_id: UUID) -> AsyncGenerator[Acquire]:
        """Yield a function that acquires a lease, as `acquire` does.

        Call it before the turn is recorded. A block that records the turn keeps the lease. One that is refused drops
        it.
        """
        acquired = False

        async def acquire(runs_for: str | None) -> None:
            nonlocal acquired
            await self.acquire(conversation_id, turn_id, runs_for)
            acquired = True

        try:
            yield acquire
        except (DomainError, IdempotencyKeyTakenError):
            if acquired:
                self.drop(turn_id)
            raise
        except BaseException:
            if acquired:
                self.let_expire(turn_id)  # the turn may have been recorded all the same
            raise

    @asynccontextmanager
    async def starting_queued(self, conversation_id: UUID, turn_id: UUID) -> AsyncGenerator[Acquire]:
        """Yield a function that lets the held lease of a queued turn count as running.

        Call it before the start is recorded. A block that is refused leaves the turn queued.
        """
        counted = False

        async def acquire(runs_for: str | None) -> None:
            nonlocal counted
            if self._running_limit is not None:
                await self.acquire(conversation_id, turn_id, runs_for)
                counted = True

        try:
            yield acquire
        except DomainError:
            if counted:
                await self.acquire(conversation_id, turn_id)
            raise

    def _hold(self, turn_id: UUID, held: "_Held") -> None:
        self._dropped.discard(turn_id)
        self._held[turn_id] = held

    async def _acquire(self, turn_id: UUID, held: "_Held") -> None:
        await self._database.fetch(_SQL["acquire"], self._row(turn_id, held))

    async def _acquire_within_limit(self, turn_id: UUID, held: "_Held", owner_id: str) -> None:
        if await self._acquire_running(turn_id, held):
            return
        # Only now, as it reads the log.
        await self._database.fetch(_SQL["delete_ended"], {"owner_id": owner_id})
        if not await self._acquire_running(turn_id, held):
            raise LimitReachedError(f"At most {self._running_limit} running turns.", RETRY_AFTER_S)

    async def _acquire_running(self, turn_id: UUID, held: "_Held") -> bool:
        limit = {"at_most": self._running_limit, "gone": list(self._dropped)}
        row = await self._database.fetch_one(_SQL["acquire_running"], {**self._row(turn_id, held), **limit})
        return row is not None and row[0]

    def _row(self, turn_id: UUID, held: "_Held") -> dict[str, Any]:
        ids = {"turn_id": turn_id, "conversation_id": held.conversation_id, "owner_id": held.runs_for}
        return {**ids, "holder": self._holder, "seconds": LEASE_S}

    async def _keep_renewing(self) -> None:
        while True:
            await self._renew()
            await self._renewal.wait(RENEW_INTERVAL_S)

    async def _renew(self) -> None:
        async with self._writing:
            dropped, held = list(self._dropped), dict(self._held)
            if dropped:
                await self._database.fetch(_SQL["delete"], {"holder": self._holder, "turn_ids": dropped})
            if held:
                for turn_id in held.keys() - await self._renewed(list(held)):
                    # Another process may have acquired this lease for a `tool_results` request that was refused, and
                    # deleted it. Acquire it again.
                    await self._acquire(turn_id, held[turn_id])
            self._dropped.difference_update(dropped)

    async def _renewed(self, turn_ids: Sequence[UUID]) -> set[UUID]:
        """Renew leases, and return the turns whose leases were there."""
        parameters = {"holder": self._holder, "seconds": LEASE_S, "turn_ids": turn_ids}
        return {row[0] for row in await self._database.fetch(_SQL["renew"], parameters)}
