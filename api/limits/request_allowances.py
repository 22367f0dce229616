"""The limit of an owner's requests in a minute.

A process takes a share of what is left in the owner's minute, and lets requests pass from memory until the share is
used. It gives back the rest. PostgreSQL grants no more than the limit, so the processes together never let
more pass.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from time import monotonic
from typing import Any

from domain.errors import LimitReachedError
from eventlog.background import Background, cancel_and_wait
from eventlog.clock import new_id
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import StoreUnavailableError

UNUSED_S = 5.0
"""How long a process keeps a share that it does not use."""
SWEEP_INTERVAL_S = 1.0
ASK_AGAIN_S = 1.0
"""How long an owner at its limit is refused from memory, before the process asks whether others gave something back."""
FORGET_S = 120.0
DELETE_EVERY_SWEEPS = 600

_SQL = load_statements("api.limits", "limits.sql")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Allowance:
    """The share of an owner's minute that this process holds.

    Times are monotonic seconds. `ends_at` is before the end of the minute, and `over_at` after it, each by the time
    that PostgreSQL took to answer.
    """

    minute: datetime | None = None
    left: int = 0
    used: int = 0
    ends_at: float = 0.0
    over_at: float = 0.0
    ask_again_at: float = 0.0
    spent_at: float = 0.0
    busy: asyncio.Task[None] | None = None
    """The statement that takes or gives back. The requests of the owner share it."""


class RequestLimit:
    """Lets at most `at_most` requests of an owner pass in a minute."""

    def __init__(self, database: Database, at_most: int) -> None:
        self._database = database
        self._at_most = at_most
        self._holder = new_id()
        self._allowances: dict[str, _Allowance] = {}
        self._background = Background()

    async def open(self) -> None:
        """Start to give back what is not used."""
        self._background.keep("request-allowances", self._keep_sweeping)

    async def close(self) -> None:
        """Stop, and give back the rest of the shares."""
        await self._background.close()
        await cancel_and_wait({allowance.busy for allowance in self._allowances.values() if allowance.busy})
        unused = {owner_id: each for owner_id, each in self._allowances.items() if each.left}
        try:
            await self._give_back(unused)
        except StoreUnavailableError as error:
            _log.warning("requests are not given back until the minute is over: %s", error)

    async def spend(self, owner_id: str) -> None:
        """Count a request of an owner.

        Raises:
            LimitReachedError: the owner has sent as many in this minute as it may.
            StoreUnavailableError: the database does not answer, and this process holds no share.
        """
        allowance = self._allowances.get(owner_id)
        if allowance is None:
            allowance = self._allowances[owner_id] = _Allowance()
        while True:
            now = monotonic()
            if now < allowance.ends_at:
                if allowance.left:
                    allowance.left -= 1
                    allowance.used += 1
                    allowance.spent_at = now
                    return
                if now < allowance.ask_again_at:
                    message = f"At most {self._at_most} requests a minute."
                    raise LimitReachedError(message, ceil(allowance.over_at - now))
            if allowance.busy is None:
                self._start(self._take(owner_id, allowance), allowance)
            assert allowance.busy is not None
            # A request that is cancelled leaves the statement to the others.
            await asyncio.shield(allowance.busy)

    def _start(self, work: Coroutine[Any, Any, None], *allowances: _Allowance) -> None:
        """Run a statement for the allowances, which run no other meanwhile."""
        task = asyncio.create_task(work, name="request allowances")

        def end(task: asyncio.Task[None]) -> None:
            for allowance in allowances:
                allowance.busy = None
            if not task.cancelled():
                task.exception()  # raised in the requests that wait for it, of which there may be none left

        for allowance in allowances:
            allowance.busy = task
        task.add_done_callback(end)

    async def _take(self, owner_id: str, allowance: _Allowance) -> None:
        allowance.left = 0
        own = {"owner_id": owner_id, "holder": self._holder, "at_most": self._at_most}
        known = {"minute": allowance.minute, "used": allowance.used}
        asked_at = monotonic()
        row = await self._database.fetch_one(_SQL["take_requests"], {**own, **known})
        assert row is not None
        minute, taken, left_s = row
        now = monotonic()
        if minute != allowance.minute:
            allowance.minute, allowance.used = minute, 0
        allowance.left = taken
        allowance.ends_at, allowance.over_at = asked_at + left_s, now + left_s
        allowance.spent_at = now
        allowance.ask_again_at = now if taken else now + ASK_AGAIN_S

    async def _keep_sweeping(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.sweep()
            if sweeps % DELETE_EVERY_SWEEPS == 0:
                await self._database.fetch(_SQL["delete_old_allowances"])
            sweeps += 1

    def sweep(self) -> None:
        """Give back shares that are not used, and forget those of old minutes."""
        now = monotonic()
        idle = {owner_id: each for owner_id, each in self._allowances.items() if each.busy is None}
        for owner_id, allowance in idle.items():
            if allowance.ends_at + FORGET_S < now:
                del self._allowances[owner_id]
        unused = {
            owner_id: each
            for owner_id, each in idle.items()
            if each.left and each.spent_at + UNUSED_S < now < each.ends_at
        }
        if unused:
            self._start(self._give_back(unused), *unused.values())

    async def _give_back(self, unused: dict[str, _Allowance]) -> None:
        for allowance in unused.values():
            allowance.left = 0  # now, as the statement may take effect even if its answer is lost
        parameters = {
            "owner_ids": list(unused),
            "minutes": [allowance.minute for allowance in unused.values()],
            "used": [allowance.used for allowance in unused.values()],
        }
        await self._database.fetch(_SQL["give_back"], {**parameters, "holder": self._holder})
