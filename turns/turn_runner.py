"""The turns whose model speaks to this process."""

import asyncio
import logging
from contextlib import ExitStack
from uuid import UUID

from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from domain.events import ConversationDeleted, ConversationEvent, TurnCancelled, TurnFailed, TurnStarted
from eventlog.background import Background
from eventlog.broadcast import Broadcast
from projections.progress import Progress
from turns.frames.delta_buffer import FlushClock
from turns.frames.replay import TurnKey, TurnReader
from turns.leases import Leases
from turns.model.gateway import ModelGateway
from turns.model_input import ModelInput
from turns.model_run import ModelRun, RunStart, Stop

_log = logging.getLogger(__name__)


class TurnRunner:
    """Runs turns that were recorded as started or resumed, and for which this process holds a lease."""

    def __init__(
        self,
        conversations: CommandExecutor,
        tokenizer: Tokenizer,
        gateway: ModelGateway,
        model_input: ModelInput,
        progress: Progress,
        broadcast: Broadcast,
        reader: TurnReader,
        leases: Leases,
    ) -> None:
        self._conversations = conversations
        self._tokenizer = tokenizer
        self._gateway = gateway
        self._model_input = model_input
        self._progress = progress
        self._broadcast = broadcast
        self._reader = reader
        self._leases = leases
        self._flush_clock = FlushClock()
        self._running: dict[UUID, ModelRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = Background()

    def get(self, turn_id: UUID) -> ModelRun | None:
        """Return a turn that runs here."""
        return self._running.get(turn_id)

    async def wait_until_gone(self, turn_id: UUID) -> None:
        """Wait until a turn no longer runs here, if it does."""
        if run := self._running.get(turn_id):
            await run.wait_until_ended()

    def begin(self, key: TurnKey, started: TurnStarted, begun: RunStart, position: int) -> None:
        """Ask the model of a turn; its context is what was said up to a position of the log."""
        run = ModelRun(
            self._conversations, self._tokenizer, self._progress, self._reader, self._flush_clock, key, begun
        )
        self._running[key.turn_id] = run
        watching = ExitStack()
        heard = self._broadcast.subscribed(key.conversation_id, lambda item: self._stop_if_ended(run, item.event))
        watching.enter_context(heard)
        task = run.begin(self._gateway, lambda: self._model_input.request(started, begun.version, position))
        self._tasks.add(task)
        task.add_done_callback(lambda _: watching.close())
        task.add_done_callback(lambda done: self._finished(done, run))

    async def drain(self, timeout_s: float) -> None:
        """Let the running turns finish for so long, then end them in the log as interrupted."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        stop = "interrupted", "The server was stopped."
        runs = [run.stop(Stop(run.origin, *stop)) for run in self._running.values()]
        await asyncio.gather(*runs)

    def _finished(self, task: asyncio.Task[None], run: ModelRun) -> None:
        self._tasks.discard(task)
        turn_id = run.key.turn_id
        del self._running[turn_id]
        if task.cancelled():
            self._leases.let_expire(turn_id)
        elif error := task.exception():
            self._leases.let_expire(turn_id)
            _log.error("turn %s was left open", turn_id, exc_info=error)
        else:
            self._leases.drop(turn_id)

    def _stop_if_ended(self, run: ModelRun, event: ConversationEvent) -> None:
        """Stop a turn that the log says is over: cancelled or ended elsewhere, or deleted with its conversation."""
        over = isinstance(event, TurnCancelled | TurnFailed) and event.turn_id == run.key.turn_id
        if over or isinstance(event, ConversationDeleted):
            self._stopping.once(f"end of turn {run.key.turn_id}", lambda: run.stop(Stop(run.origin, "interrupted")))
