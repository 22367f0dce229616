"""The turns whose model is running in this process."""

import asyncio
import logging
from contextlib import ExitStack
from uuid import UUID

from domain.aggregates import AggregateEvent
from domain.events import ConversationDeleted, TurnCancelled, TurnFailed, TurnStarted
from eventlog.background import Background
from eventlog.feeds.broadcast import Broadcast
from turns.frames.replay import TurnKey
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelRequest
from turns.model_input import ModelInput
from turns.model_run import ModelRun, RunServices, RunStart, Stop
from turns.upkeep.leases import Leases

_log = logging.getLogger(__name__)


class TurnRunner:
    """Runs started and resumed turns, whose leases this process holds."""

    def __init__(
        self,
        services: RunServices,
        gateway: ModelGateway,
        model_input: ModelInput,
        broadcast: Broadcast,
        leases: Leases,
    ) -> None:
        self._services = services
        self._gateway = gateway
        self._model_input = model_input
        self._broadcast = broadcast
        self._leases = leases
        self._running: dict[UUID, ModelRun] = {}
        self._stopping = Background()

    @property
    def running(self) -> int:
        """The number of turns whose model runs here."""
        return len(self._running)

    def get(self, turn_id: UUID) -> ModelRun | None:
        """Return the run of a turn, None if the turn does not run here."""
        return self._running.get(turn_id)

    async def wait_until_ended(self, turn_id: UUID) -> None:
        """Wait until the run of a turn has ended. Return at once if none runs here."""
        if run := self._running.get(turn_id):
            await run.wait_until_ended()

    def begin(self, key: TurnKey, started: TurnStarted, start: RunStart, position: int) -> None:
        """Run the model of a turn, with the conversation up to a position as context."""
        run = ModelRun(self._services, key, start)
        self._running[key.turn_id] = run
        subscription = ExitStack()
        subscription.enter_context(
            self._broadcast.subscribed(key.conversation_id, lambda item: self._stop_if_ended(run, item.event))
        )

        async def prepare() -> ModelRequest:
            run.results_timeout_s = await self._model_input.tool_results_timeout_s(started)
            return await self._model_input.request(started, start.version, position)

        task = run.begin(self._gateway, prepare)
        task.add_done_callback(lambda _: subscription.close())
        task.add_done_callback(lambda done: self._remove(run, done))

    async def drain(self, timeout_s: float) -> None:
        """Let the running turns finish within `timeout_s`, then interrupt them."""
        if self._running:
            await asyncio.wait([run.task for run in self._running.values()], timeout=timeout_s)
        reason = "interrupted", "The server was stopped."
        await asyncio.gather(*(run.stop(Stop(run.origin, *reason)) for run in self._running.values()))

    def _remove(self, run: ModelRun, task: asyncio.Task[None]) -> None:
        turn_id = run.key.turn_id
        del self._running[turn_id]
        if task.cancelled():
            self._leases.let_expire(turn_id)
        elif error := task.exception():
            self._leases.let_expire(turn_id)
            _log.error("turn %s was left open", turn_id, exc_info=error)
        else:
            self._leases.drop(turn_id)

    def _stop_if_ended(self, run: ModelRun, event: AggregateEvent) -> None:
        """Stop a turn that another process ended, or deleted with its conversation."""
        ended = isinstance(event, TurnCancelled | TurnFailed) and event.turn_id == run.key.turn_id
        if ended or isinstance(event, ConversationDeleted):
            self._stopping.once(f"end of turn {run.key.turn_id}", lambda: run.stop(Stop(run.origin, "interrupted")))
