"""Leases: how the processes of a log tell each other which turns they run, and find the turns of those that died.

A turn is locked by the log alone; a lease only says that somebody is at work on it. The clock is the database's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from domain.errors import DomainError
from eventlog.background import Background
from eventlog.clock import new_id
from eventlog.database import Database
from eventlog.errors import LogError, StoreUnavailableError
from eventlog.statements import load_statements

LEASE_S = 8.0
RENEW_INTERVAL_S = 2.0
LOOK_INTERVAL_S = 1.0
EXPIRED_FOR_S = 3.0
"""How long a lease has to be seen expired before its turn is recovered. It is more than a renewal takes, so that a step
of the database's clock, which lets all leases expire at once, ends no turn that somebody is at work on."""
CLIENT_LEASE_S = 60.0

Recover = Callable[[UUID, UUID], Awaitable[None]]

_SQL = load_statements("turns", "leases.sql")
_log = logging.getLogger(__name__)


class _Expired(NamedTuple):
    """An expired lease as it was found, and since when (in monotonic seconds) it has been like that.

    `expires_at` is None where its holder released it.
    """

    conversation_id: UUID
    expires_at: datetime | None
    since: float


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
        self._renew_at = 0.0
        self._expired: dict[UUID, _Expired] = {}
        self._background = Background()

    async def open(self) -> None:
        """Start to renew and to watch."""
        self._background.keep("leases", self._run)

    async def close(self) -> None:
        """Give up what is held no longer, and stop."""
        await self._background.close()
        try:
            await self._renew()
        except StoreUnavailableError as error:
            _log.warning("leases are left to expire: %s", error)

    async def take(self, conversation_id: UUID, turn_id: UUID) -> None:
        """Hold a lease from before the turn is recorded, so that there is no moment in which nobody answers for it.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._changing:
            await self._database.fetch(_SQL["take"], [turn_id, conversation_id, self._holder, LEASE_S])
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
        async with self._changing:
            await self._database.fetch(_SQL["release"], [turn_id, self._holder])

    async def lend(self, conversation_id: UUID, turn_id: UUID) -> None:
        """Let a turn whose client runs the model go on for another minute.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        self._held.pop(turn_id, None)
        async with self._changing:
            await self._database.fetch(_SQL["lend"], [turn_id, conversation_id, self._holder, CLIENT_LEASE_S])

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
                if monotonic() >= self._renew_at:
                    await self._renew()
                    self._renew_at = monotonic() + RENEW_INTERVAL_S
                await self._recover_expired()
            except StoreUnavailableError:
                # No process could renew while the database was away: give all of them the time to do it.
                self._patient_until = monotonic() + LEASE_S
                self._expired.clear()
                raise
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _renew(self) -> None:
        async with self._changing:
            await self._write()

    async def _write(self) -> None:
        given_up, held = list(self._given_up), dict(self._held)
        if given_up:
            await self._database.fetch(_SQL["give_up"], [self._holder, given_up])
        if held:
            renewed = await self._database.fetch(_SQL["renew"], [LEASE_S, self._holder, list(held)])
            for turn_id in held.keys() - {row[0] for row in renewed}:
                # Another process took it too, and gave it up when it found the turn resumed already.
                await self._database.fetch(_SQL["take"], [turn_id, held[turn_id], self._holder, LEASE_S])
        self._given_up.difference_update(given_up)

    async def _recover_expired(self) -> None:
        for conversation_id, turn_id in await self._seen_for_long():
            try:
                await self._recover(conversation_id, turn_id)
            except (DomainError, LogError) as error:
                _log.warning("turn %s could not be ended yet: %s", turn_id, error)
                continue
            except Exception:  # noqa: BLE001 - a logged boundary: one turn must not keep the others open
                _log.exception("turn %s cannot be ended", turn_id)
                continue
            await self._database.fetch(_SQL["remove_expired"], [turn_id])

    async def _seen_for_long(self) -> list[tuple[UUID, UUID]]:
        """Return conversation and turn of the leases that have been seen expired, and not renewed, for a while."""
        now = monotonic()
        if now < self._patient_until:
            return []
        seen: dict[UUID, _Expired] = {}
        for turn_id, conversation_id, expires_at in await self._database.fetch(_SQL["read_expired"]):
            before = self._expired.get(turn_id)
            since = before.since if before and before.expires_at == expires_at else now
            seen[turn_id] = _Expired(conversation_id, expires_at, since)
        self._expired = seen
        return [
            (each.conversation_id, turn_id)
            for turn_id, each in seen.items()
            if each.expires_at is None or now - each.since >= EXPIRED_FOR_S
        ]
