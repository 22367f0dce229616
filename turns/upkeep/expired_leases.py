"""Expired leases: recover the turns whose process or client is gone."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import NamedTuple, Protocol
from uuid import UUID

from domain.errors import DomainError
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError

LOOK_INTERVAL_S = 1.0
EXPIRED_FOR_S = 4.5
"""How long a lease must be seen expired before its turn is recovered.

It is longer than a renewal takes. A step of the database's clock expires all leases at once, and must end no turn that
a process still runs.
"""
LONGEST_LEASE_S = 60.0
LATEST_EXPIRY_S = LONGEST_LEASE_S + 10.0
"""No lease expires later than this from now, unless the database's clock was set back."""
UNREADABLE_RETRY_S = 60.0
"""How long a turn is skipped that this release cannot read. A newer release may end it meanwhile."""

Recover = Callable[[UUID, UUID], Awaitable[None]]

_SQL = load_statements("turns.upkeep", "leases.sql")
_log = logging.getLogger(__name__)


class _Expired(NamedTuple):
    """An expired lease.

    `expires_at` is None if its holder released it. `ahead` says that it expires later than any lease may, because the
    database's clock was set back. `since` is the monotonic time at which this `expires_at` was first seen.
    """

    turn_id: UUID
    conversation_id: UUID
    expires_at: datetime | None
    ahead: bool
    since: float

    def wait_s(self) -> float:
        """Return the seconds that it must stay unchanged before its turn is recovered."""
        if self.expires_at is None:
            return 0.0
        return LONGEST_LEASE_S if self.ahead else EXPIRED_FOR_S


class Claims(Protocol):
    """The part of a process's leases that recovers turns of others."""

    async def claim(self, turn_id: UUID) -> bool:
        """Take an expired lease. Return False if another process was faster."""
        ...

    def settle(self, turn_id: UUID) -> None:
        """Give a claimed lease up, unless its turn waits in this process now."""
        ...


class ExpiredLeases:
    """Looks for expired leases of all processes, and recovers their turns."""

    def __init__(self, database: Database, recover: Recover, claims: Claims) -> None:
        self._database = database
        self._recover = recover
        self._claims = claims
        self._expired: dict[UUID, _Expired] = {}
        self._skipped_until: dict[UUID, float] = {}

    async def watch(self) -> None:
        """Look for expired leases every second, and recover their turns.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        while True:
            try:
                await self.check()
            except StoreUnavailableError:
                # No process could renew while the store was away or read-only, so give all of them time to do it.
                self._expired.clear()
                raise
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def check(self) -> None:
        """Recover the turns of leases that were seen expired for long enough.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        for lease in await self._expired_for_long():
            # The holder may have renewed it since. Several processes find the same lease, and without the claim a slow
            # one could end a turn that a fast one has taken out of the queue and started.
            if await self._claims.claim(lease.turn_id):
                await self._recover_turn(lease)

    async def _recover_turn(self, lease: _Expired) -> None:
        try:
            await self._recover(lease.conversation_id, lease.turn_id)
        except StoreUnavailableError:
            raise
        except UnknownEventError as error:
            _log.warning("turn %s is left to a newer release: %s", lease.turn_id, error)
            self._skipped_until[lease.turn_id] = monotonic() + UNREADABLE_RETRY_S
        except (DomainError, LogError) as error:
            # The claim expires, and the turn is tried again.
            _log.warning("turn %s could not be ended yet: %s", lease.turn_id, error)
        except Exception:  # noqa: BLE001 - a logged boundary: one turn must not keep the others open
            _log.exception("turn %s cannot be ended", lease.turn_id)
        else:
            self._claims.settle(lease.turn_id)

    async def _expired_for_long(self) -> list[_Expired]:
        """Return the leases that were seen expired and unchanged for long enough."""
        now = monotonic()
        self._skipped_until = {turn_id: until for turn_id, until in self._skipped_until.items() if until > now}
        found: dict[UUID, _Expired] = {}
        parameters = {"except_turn_ids": list(self._skipped_until), "latest_s": LATEST_EXPIRY_S}
        for row in await self._database.fetch(_SQL["find_expired"], parameters):
            lease = _Expired(*row, since=now)
            before = self._expired.get(lease.turn_id)
            unchanged = before is not None and before.expires_at == lease.expires_at
            found[lease.turn_id] = before if before is not None and unchanged else lease
        self._expired = found
        return [lease for lease in found.values() if now - lease.since >= lease.wait_s()]
