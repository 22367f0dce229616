"""Cancels: stop a turn in whichever process it runs.

That process has every chunk that was sent, so it is asked to end the turn. If it does not within 150 ms, the turn is
ended in the log without it, with the chunks that are recorded.
"""

import logging
from uuid import UUID

from pydantic import BaseModel, ValidationError

from commands.commands import Caller
from commands.executor import CommandExecutor
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.decisions.running_turns import EMPTY_ANSWER
from domain.errors import TurnNotActiveError
from domain.events import TurnEnded
from eventlog.background import Background
from eventlog.clock import new_id, now
from eventlog.feeds.broadcast import Broadcast
from eventlog.feeds.channels import Channels
from eventlog.feeds.wakeup import Wakeup
from eventlog.mapper import Recorded
from eventlog.writer import Idempotency
from turns.frames.replay import TurnKey, TurnReader
from turns.model_run import Stop
from turns.turn_runner import TurnRunner

ANSWER_WAIT_S = 0.15

_TOPIC = "cancels"
_log = logging.getLogger(__name__)


class _Cancel(BaseModel):
    """The notification: a turn, the caller, and the command's idempotency key."""

    turn_id: UUID
    owner_id: str
    actor: str
    request_id: str | None
    key: str | None = None
    fingerprint: str = ""


class Cancels:
    """Cancels turns, also for other processes.

    Create it before the channels are opened, because it subscribes to a topic.
    """

    def __init__(
        self,
        executor: CommandExecutor,
        reader: TurnReader,
        runner: TurnRunner,
        channels: Channels,
        broadcast: Broadcast,
    ) -> None:
        self._executor = executor
        self._reader = reader
        self._runner = runner
        self._channels = channels
        self._broadcast = broadcast
        self._stopping = Background()
        channels.subscribe(_TOPIC, self._on_notification)

    async def cancel(self, caller: Caller, conversation_id: UUID, turn_id: UUID) -> TurnKey:
        """Cancel a turn, in whichever process it runs or waits.

        The chunks so far are kept as its answer.

        Raises:
            TurnNotActiveError: the turn has ended already, or there is none.
            ConversationNotFoundError: another owner has the conversation.
            StoreUnavailableError: the log does not answer.
        """
        state = await self._executor.state(conversation_id, owner_id=caller.owner_id)
        key = _open_turn(state, turn_id)
        stopping = await self._stop_run(caller, state, key)

        async def decide(state: Conversation) -> Events:
            runs = state.turn is not None and state.turn.id == turn_id and not state.turn.waiting
            answer = await self._reader.answer_so_far(key) if runs else EMPTY_ANSWER
            return running_turns.cancel_turn(state, caller.origin(), turn_id, answer, new_id())

        try:
            await self._executor.execute(conversation_id, decide, caller.idempotency, owner_id=caller.owner_id)
        except TurnNotActiveError:
            if not stopping:
                raise
        return key

    async def _stop_run(self, caller: Caller, state: Conversation, key: TurnKey) -> bool:
        """Stop the run of a turn in any process. Return whether there may be one."""
        run = self._runner.get(key.turn_id)
        if run is not None:
            await run.stop(Stop(caller.origin(), idempotency=caller.idempotency))
            return True
        turn = state.turn
        if turn is None or turn.id != key.turn_id or turn.waiting or not turn.generate:
            return False
        await self._stop_elsewhere(caller, key)
        return True

    async def _stop_elsewhere(self, caller: Caller, key: TurnKey) -> None:
        """Ask the process that runs a turn to stop it, and wait up to 150 ms for its end."""
        ended = Wakeup()

        def on_event(item: Recorded) -> None:
            if isinstance(item.event, TurnEnded) and item.event.turn_id == key.turn_id:
                ended.set()

        cancel = _Cancel(
            turn_id=key.turn_id, owner_id=caller.owner_id, actor=caller.actor, request_id=caller.request_id
        )
        if caller.idempotency is not None:
            cancel.key, cancel.fingerprint = caller.idempotency.key, caller.idempotency.fingerprint.hex()
        with self._broadcast.subscribed(key.conversation_id, on_event):
            await self._channels.notify(_TOPIC, cancel.model_dump_json())
            await ended.wait(ANSWER_WAIT_S)

    def _on_notification(self, payload: str | None) -> None:
        if payload is None:
            return  # the process that asked goes on after its wait
        try:
            cancel = _Cancel.model_validate_json(payload)
        except ValidationError:
            _log.warning("another release sent a cancel that this release cannot read")
            return
        run = self._runner.get(cancel.turn_id)
        if run is not None:
            fingerprint = bytes.fromhex(cancel.fingerprint)
            idempotency = Idempotency(cancel.owner_id, cancel.key, fingerprint) if cancel.key else None
            origin = Origin(cancel.owner_id, cancel.actor, now(), cancel.request_id)
            stop = Stop(origin, idempotency=idempotency)
            self._stopping.once(f"cancel of turn {cancel.turn_id}", lambda: run.stop(stop))


def _open_turn(state: Conversation, turn_id: UUID) -> TurnKey:
    """Return the key of a turn that has not ended.

    Raises:
        TurnNotActiveError: the turn has ended, or there is none.
    """
    open_turns = {turn.id: turn.version for turn in state.queue}
    if state.turn is not None:
        open_turns[state.turn.id] = state.turn.first_version
    if turn_id not in open_turns:
        raise TurnNotActiveError(turn_id)
    return TurnKey(state.id, turn_id, open_turns[turn_id])
