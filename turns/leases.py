"""Leases: how the processes of a log tell each other which turns they run, and find the turns of those that died.

A turn is locked by the log alone; a lease only says that somebody is at work on it. The clock is the database's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from uuid import UUID

from domain.errors import DomainError
from eventlog.clock import new_id
from eventlog.database import Database
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError
from eventlog.statements import load_statements

LEASE_S = 8.0
RENEW_INTERVAL_S = 2.0
CLIENT_LEASE_S = 60.0
UNREADABLE_RETRY_S = 60.0
"""How long a turn is left alone that this release cannot read; a newer one may end it meanwhile."""

Recover = Callable[[UUID, UUID], Awaitable[None]]

_SQL = load_statements("turns", "leases.sql")
_log = logging.getLogger(__name__)


class Leases:
    """This process's leases, renewed every two seconds, and its watch over everybody's.

    `recover` is called with the conversation and the turn of each lease that has expired; any number of processes may
    find the same one, so it has to be right to call it twice.
    """

    def __init__(self, database: Database, recover: Recover) -> None:
        self._database = database
        self._recover = recover
        self._holder = new_id()
        self._held: dict[UUID, UUID] = {}
        self._given_up: set[UUID] = set()
        self._changing = asyncio.Lock()
        self._patient_until = 0.0
        self._left_until: dict[UUID, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start to renew and to watch."""
        self._task = asyncio.create_task(self._run(), name="leases")

    async def close(self) -> None:
        """Give up what is held no longer, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._renew()
        except StoreUnavailableError as error:
            _log.warning("leases are left to expire: %s", error)

    async def take(self, conversation_id: UUID, turn_id: UUID) -> None:
        """Hold a lease from before the turn is recorded, so that there is no moment in which nobody answers for it.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._changing, self._database.connection() as connection:
            await connection.execute(_SQL["take"], [turn_id, conversation_id, self._holder, LEASE_S])
        self._given_up.discard(turn_id)
        self._held[turn_id] = conversation_id

    async def take_over(self, turn_id: UUID) -> bool:
        """Hold a lease that has expired; return whether it was still there to be taken.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._changing:
            row = await self._database.fetch_one(_SQL["take_over"], [self._holder, LEASE_S, turn_id])
        if row is None:
            return False
        self._given_up.discard(turn_id)
        self._held[turn_id] = row[0]
        return True

    async def release(self, turn_id: UUID) -> None:
        """Let another process take a lease over at once.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        self._held.pop(turn_id, None)
        async with self._changing, self._database.connection() as connection:
            await connection.execute(_SQL["release"], [turn_id, self._holder])

    async def lend(self, conversation_id: UUID, turn_id: UUID) -> None:
        """Let a turn whose client runs the model go on for another minute.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        self._held.pop(turn_id, None)
        async with self._changing, self._database.connection() as connection:
            await connection.execute(_SQL["lend"], [turn_id, conversation_id, self._holder, CLIENT_LEASE_S])

    def give_up(self, turn_id: UUID) -> None:
        """Say that the turn has ended in the log, or never began."""
        self._held.pop(turn_id, None)
        self._given_up.add(turn_id)

    def abandon(self, turn_id: UUID) -> None:
        """Let the lease expire: the turn could not be ended here, and whoever finds the lease will end it."""
        self._held.pop(turn_id, None)

    async def _run(self) -> None:
        while True:
            try:
                await self._renew()
                if monotonic() >= self._patient_until:
                    await self._recover_expired()
            except StoreUnavailableError:
                # Nobody could renew while the database was away: give everyone the time to do it.
                self._patient_until = monotonic() + LEASE_S
            await asyncio.sleep(RENEW_INTERVAL_S)

    async def _renew(self) -> None:
        async with self._changing:
            await self._write()

    async def _write(self) -> None:
        given_up, held = list(self._given_up), dict(self._held)
        async with self._database.connection() as connection:
            if given_up:
                await connection.execute(_SQL["give_up"], [self._holder, given_up])
            if held:
                cursor = await connection.execute(_SQL["renew"], [LEASE_S, self._holder, list(held)])
                for turn_id in held.keys() - {row[0] for row in await cursor.fetchall()}:
                    # Another process took it too, and gave it up when it found the turn resumed already.
                    await connection.execute(_SQL["take"], [turn_id, held[turn_id], self._holder, LEASE_S])
        self._given_up.difference_update(given_up)

    async def _recover_expired(self) -> None:
        self._left_until = {turn_id: until for turn_id, until in self._left_until.items() if until > monotonic()}
        for turn_id, conversation_id in await self._database.fetch(_SQL["read_expired"], [list(self._left_until)]):
            try:
                await self._recover(conversation_id, turn_id)
            except UnknownEventError as error:
                _log.warning("turn %s is left to a newer release: %s", turn_id, error)
                self._left_until[turn_id] = monotonic() + UNREADABLE_RETRY_S
                continue
            except (DomainError, LogError) as error:
                _log.warning("turn %s could not be ended yet: %s", turn_id, error)
                continue
            except Exception as error:  # noqa: BLE001  whatever is wrong with one turn, this process's leases go on
                _log.error("turn %s cannot be ended: %r", turn_id, error)
                continue
            async with self._database.connection() as connection:
                await connection.execute(_SQL["remove_expired"], [turn_id])
