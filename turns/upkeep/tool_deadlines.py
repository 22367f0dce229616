"""Deadlines of tool results: end the turns that wait longer than they may."""

import asyncio
import logging
from datetime import timedelta
from time import monotonic

from commands.executor import CommandExecutor
from domain.aggregates import SYSTEM
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.errors import DomainError, TurnNotActiveError
from eventlog.background import Background
from eventlog.clock import new_id, now
from eventlog.errors import LogError, StoreUnavailableError
from projections.models.waits import WaitRow, Waits

LOOK_INTERVAL_S = 0.5
WAITS_AT_ONCE = 100
SKIPPED_S = 10.0
"""How long a wait is left out after its end was tried, because the read model is behind or the turn cannot be read."""

_log = logging.getLogger(__name__)


class ToolDeadlines:
    """Fails turns whose tool results are overdue, at their deadline.

    Every process does so. The one that records the failure first has done it.
    """

    def __init__(self, waits: Waits, executor: CommandExecutor) -> None:
        self._waits = waits
        self._executor = executor
        self._skipped_until: dict[WaitRow, float] = {}
        self._background = Background()

    async def open(self) -> None:
        """Start to look for waits that end."""
        self._background.keep("tool-deadlines", self._watch)

    async def close(self) -> None:
        """Stop. Another process, or the next one, ends the turns."""
        await self._background.close()

    async def _watch(self) -> None:
        while True:
            found = await self._due()
            pause_s = LOOK_INTERVAL_S if len(found) < WAITS_AT_ONCE else 0
            await asyncio.gather(asyncio.sleep(pause_s), *map(self._end_on_time, found))

    async def _due(self) -> list[WaitRow]:
        """Return the waits that end before the next look, the earliest first."""
        moment = monotonic()
        self._skipped_until = {wait: until for wait, until in self._skipped_until.items() if until > moment}
        until = now() + timedelta(seconds=LOOK_INTERVAL_S)
        found = await self._waits.due(until, WAITS_AT_ONCE + len(self._skipped_until))
        return [wait for wait in found if wait not in self._skipped_until]

    async def _end_on_time(self, wait: WaitRow) -> None:
        await asyncio.sleep((wait.due_at - now()).total_seconds())
        # The clock may be slower than the timers of the event loop. Then the next look finds the wait again.
        if now() >= wait.due_at:
            await self._end(wait)

    async def _end(self, wait: WaitRow) -> None:
        def decide(state: Conversation) -> Events:
            origin = Origin(state.owner_id, SYSTEM, now())
            return running_turns.time_out_turn(state, origin, wait.turn_id, new_id())

        fields = {"conversation_id": str(wait.conversation_id)}
        try:
            await self._executor.execute(wait.conversation_id, decide)
        except StoreUnavailableError as error:
            _log.info("turn %s cannot be ended yet: %s", wait.turn_id, error, extra=fields)
            return  # the next look finds it again
        except TurnNotActiveError:
            pass  # another process was faster, or the results have come
        except (DomainError, LogError) as error:
            _log.warning("turn %s waits on beyond its deadline: %s", wait.turn_id, error, extra=fields)
        else:
            _log.info("turn %s was ended: its tool results did not come in time", wait.turn_id, extra=fields)
        self._skipped_until[wait] = monotonic() + SKIPPED_S
