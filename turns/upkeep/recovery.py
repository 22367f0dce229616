"""Recovery: end a turn whose process or client is gone, or queue it here."""

import logging
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from commands.executor import CommandExecutor
from domain.aggregates import SYSTEM
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.errors import ConversationNotFoundError, TurnNotActiveError
from eventlog.clock import now
from turns.frames.replay import TurnKey, TurnReader
from turns.queue import TurnQueue

_log = logging.getLogger(__name__)


class LostRun(NamedTuple):
    """Why a turn is ended by another process than its own."""

    reason: str
    detail: str


SERVER_GONE = LostRun("interrupted", "The server that ran this turn is gone.")
CLIENT_LOST = LostRun("client_lost", "Nothing was heard of the client that runs the model for 60 s.")


class Recovery:
    """Ends the turns of expired leases, and takes over queued ones."""

    def __init__(
        self,
        executor: CommandExecutor,
        reader: TurnReader,
        queue: TurnQueue,
        on_recovered: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_recovered` is called after each turn that was ended here."""
        self._executor = executor
        self._reader = reader
        self._queue = queue
        self._on_recovered = on_recovered

    async def recover(self, conversation_id: UUID, turn_id: UUID) -> None:
        """End a turn that no process runs, or queue it here if it has not started.

        A second call does no harm.

        Raises:
            DomainError: the turn cannot be ended.
            StoreUnavailableError: the log does not answer.
        """
        try:
            state = await self._executor.state(conversation_id)
        except ConversationNotFoundError:
            return  # its start was never recorded
        for queued in state.queue:
            if queued.id == turn_id:
                await self._queue.adopt(TurnKey(conversation_id, turn_id, queued.version))
        turn = state.turn
        if turn is not None and turn.id == turn_id and not turn.waiting:
            key = TurnKey(conversation_id, turn_id, turn.first_version)
            await self._end(key, state.owner_id, SERVER_GONE if turn.generate else CLIENT_LOST)

    async def _end(self, key: TurnKey, owner_id: str, lost: LostRun) -> None:
        async def decide(state: Conversation) -> Events:
            answer, origin = await self._reader.answer_so_far(key), Origin(owner_id, SYSTEM, now())
            return running_turns.fail_turn(state, origin, key.turn_id, answer, reason=lost.reason, detail=lost.detail)

        try:
            await self._executor.execute(key.conversation_id, decide)
        except TurnNotActiveError:
            return  # another process was faster
        self._on_recovered()
        conversation_id = str(key.conversation_id)
        _log.warning("turn %s was ended: %s", key.turn_id, lost.detail, extra={"conversation_id": conversation_id})
