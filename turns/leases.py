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
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError

LEASE_S = 6.0
RENEW_INTERVAL_S = 2.0
LOOK_INTERVAL_S = 1.0
EXPIRED_FOR_S = 4.5
"""How long a lease has to be seen expired before its turn is recovered. It is more than a renewal takes, so that a step
of the database's clock, which lets all leases expire at once, ends no turn that somebody is at work on."""
CLIENT_LEASE_S = 60.0
UNREADABLE_RETRY_S = 60.0
"""How long a turn is left alone that this release cannot read; a newer one may end it meanwhile."""

Recover = Callable[[UUID, UUID], Awaitable[None]]

_SQL = load_statements("turns", "leases.sql")
_log = logging.getLogger(__name__)


class _Expired(NamedTuple):
    """A lease that has expired as it was found, and since when (in monotonic seconds) it has been like that.

    `expires_at` is None where its holder released it. `ahead` says that it expires later than any lease may, because
    the database's clock was set back.
    """

    turn_id: UUID
    conversation_id: UUID
    expires_at: datetime | None
    ahead: bool
    since: float

    def patience_s(self) -> float:
        """Return for how long it has to be seen like that."""
        if self.expires_at is None:
            return 0.0
        return CLIENT_LEASE_S if self.ahead else EXPIRED_FOR_S


class Leases:
    """This process's leases, renewed every two seconds, and its watch over everybody's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = new_id()
        self._held: dict[UUID, UUID] = {}
        self._given_up: set[UUID] = set()
        self._changing = asyncio.Lock()
        self._expired: dict[UUID, _Expired] = {}
        self._left_until: dict[UUID, float] = {}
        self._background = Background()

    async def open(self, recover: Recover) -> None:
        """Start to renew leases and to look for expired ones.

        `recover` is called with the conversation and the turn of each expired lease. Several processes may find the
        same one, so a second call must do no harm.
        """
        self._background.keep("leases", self._keep_renewing)
        self._background.keep("expired-leases", lambda: self._keep_looking(recover))

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
            row = await self._database.fetch_one(_SQL["take_over"], [self._holder, LEASE_S, turn_id, self._holder])
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

    async def _keep_renewing(self) -> None:
        while True:
            await self._renew()
            await asyncio.sleep(RENEW_INTERVAL_S)

    async def _keep_looking(self, recover: Recover) -> None:
        while True:
            try:
                await self._recover_expired(recover)
            except StoreUnavailableError:
                # No process could renew while the store was away or read-only: give all of them the time to do it.
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

    async def _recover_expired(self, recover: Recover) -> None:
        for lease in await self._seen_for_long():
            if await self._database.fetch(_SQL["is_expired"], [lease.turn_id]):  # it may have been renewed meanwhile
                await self._recover_one(recover, lease)

    async def _recover_one(self, recover: Recover, lease: "_Expired") -> None:
        try:
            await recover(lease.conversation_id, lease.turn_id)
        except StoreUnavailableError:
            raise
        except UnknownEventError as error:
            _log.warning("turn %s is left to a newer release: %s", lease.turn_id, error)
            self._left_until[lease.turn_id] = monotonic() + UNREADABLE_RETRY_S
        except (DomainError, LogError) as error:
            _log.warning("turn %s could not be ended yet: %s", lease.turn_id, error)
            del self._expired[lease.turn_id]  # others come first
        except Exception:  # noqa: BLE001 - a logged boundary: one turn must not keep the others open
            _log.exception("turn %s cannot be ended", lease.turn_id)
            del self._expired[lease.turn_id]
        else:
            await self._database.fetch(_SQL["remove_expired"], [lease.turn_id])

    async def _seen_for_long(self) -> list["_Expired"]:
        """Return the leases that have been seen expired, and not renewed, for long enough to recover their turns."""
        now = monotonic()
        self._left_until = {turn_id: until for turn_id, until in self._left_until.items() if until > now}
        seen: dict[UUID, _Expired] = {}
        for row in await self._database.fetch(_SQL["find_expired"], [list(self._left_until)]):
            lease = _Expired(*row, since=now)
            before = self._expired.get(lease.turn_id)
            unchanged = before is not None and before.expires_at == lease.expires_at
            seen[lease.turn_id] = before if before is not None and unchanged else lease
        self._expired = seen
        return [lease for lease in seen.values() if now - lease.since >= lease.patience_s()]
