"""Turns: the commands of clients, each recorded before its model runs."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, NamedTuple, TypeGuard
from uuid import UUID

from commands.commands import Caller, ClientMessage, Commands
from commands.executor import Committed
from domain.agent import AgentDefined
from domain.conversation import Conversation, fold
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.agents import resolve_settings
from domain.decisions.conversations import Events
from domain.decisions.guards import check_access, check_next, check_unlocked
from domain.decisions.turn_starts import Superseded, TurnIds, TurnSettings, settings_of
from domain.errors import MessageNotFoundError, TurnNotActiveError
from domain.events import ConversationEvent, MessageAdded, TurnQueued, TurnStarted
from eventlog.clock import new_id
from eventlog.errors import StoreUnavailableError
from eventlog.mapper import Recorded
from turns.cancels import Cancels
from turns.frames.replay import TurnKey, TurnReader
from turns.model_run import RunStart
from turns.queue import TurnQueue
from turns.regeneration import find_answered_question
from turns.turn_runner import TurnRunner
from turns.upkeep.leases import Acquire, Leases

OnBusy = Literal["reject", "queue", "interrupt"]
TurnDecision = Callable[[Acquire, Conversation], Awaitable[Events]]
"""A decision that acquires the turn's lease before it returns the events of a start."""

_log = logging.getLogger(__name__)


class AcceptedTurn(NamedTuple):
    """A turn that was just started, queued or resumed, and the event that records it."""

    key: TurnKey
    recorded: Recorded


class Turns:
    """The commands of turns.

    Each raises the domain's errors. It raises StoreUnavailableError if the log does not answer, or the server stops.
    """

    def __init__(
        self,
        commands: Commands,
        reader: TurnReader,
        runner: TurnRunner,
        queue: TurnQueue,
        cancels: Cancels,
        leases: Leases,
    ) -> None:
        self._commands = commands
        self._starts = commands.starts
        self._agents = commands.starts.agents
        self._executor = commands.executor
        self._log = commands.executor.log
        self._reader = reader
        self._runner = runner
        self._queue = queue
        self._cancels = cancels
        self._leases = leases
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new turns are refused, because the server stops."""
        return self._draining

    @property
    def running(self) -> int:
        """The number of turns whose model runs in this process."""
        return self._runner.running

    @property
    def queued(self) -> int:
        """The number of queued turns that wait in this process."""
        return self._queue.length

    async def start(
        self,
        caller: Caller,
        conversation_id: UUID,
        message: ClientMessage,
        settings: TurnSettings,
        *,
        on_busy: OnBusy = "reject",
        replace_from: UUID | None = None,
    ) -> AcceptedTurn:
        """Record the user's message and let the model answer it.

        While another turn is active, `on_busy` decides: the turn is rejected or queued, or it goes ahead of the queue
        and interrupts the active turn. With `replace_from` the message replaces that one and all after it. The settings
        that the request leaves open come from the conversation's agent when the turn starts.

        Raises:
            ConversationLockedError: another turn is active.
            MessageNotFoundError: there is no message to replace.
        """
        self._check_open()
        draft, ids = await self._commands.draft(message), TurnIds(new_id(), new_id(), new_id())

        async def decide(acquire: Acquire, state: Conversation) -> Events:
            origin = caller.origin()
            check_access(state, caller.owner_id)
            if on_busy == "reject":
                check_unlocked(state)
            from_version = await self._version_of(conversation_id, replace_from) if replace_from else None
            if state.locked_by is not None:
                ahead = on_busy == "interrupt"
                await acquire(None)
                return turn_starts.queue_turn(
                    state, origin, draft, settings, ids, from_version=from_version, ahead=ahead
                )
            superseded = await self._superseded(conversation_id, from_version)
            resolved = await self._agents.resolve(state.owner_id, state.agent_id, settings)
            events = turn_starts.start_turn(state, origin, draft, resolved, ids, superseded)
            await acquire(state.owner_id)
            return events

        committed, accepted = await self._record(caller, conversation_id, ids.turn, decide)
        if on_busy == "interrupt" and isinstance(committed.events[-1], TurnQueued):
            await self._interrupt(caller, committed.state)
        return accepted

    async def start_with_conversation(
        self, caller: Caller, message: ClientMessage, settings: TurnSettings, *, agent_id: str | None, title: str | None
    ) -> AcceptedTurn:
        """Start a conversation with the user's message, and let the model answer it.

        Raises:
            ConversationLimitReachedError: the agent allows no further conversation.
        """
        self._check_open()
        draft, ids = await self._commands.draft(message), TurnIds(new_id(), new_id(), new_id())
        conversation_id = new_id()
        async with self._leases.starting(conversation_id, ids.turn) as acquire:

            async def decide(agent: AgentDefined | None) -> Events:
                origin = caller.origin()
                started = conversations.start_conversation(conversation_id, origin, agent_id=agent_id, title=title)
                state = fold(None, started)
                assert state is not None
                turn = turn_starts.start_turn(state, origin, draft, resolve_settings(settings, agent), ids)
                await acquire(caller.owner_id)
                return [*started, *turn]

            committed = await self._starts.record(caller.owner_id, agent_id, decide, caller.idempotency)
            return await self._begin(caller, committed)

    async def regenerate(
        self, caller: Caller, conversation_id: UUID, message_id: UUID, model: str | None, default_model: str
    ) -> AcceptedTurn:
        """Let a model answer a question again.

        The old answer and all after it are superseded. `message_id` is the answer, or the question itself. The settings
        are those of the turn that answered before.

        Raises:
            ConversationLockedError: another turn is active.
            MessageNotFoundError: there is no such message, or it was superseded.
            InvalidContentError: it is neither a user's message nor the answer to one.
        """
        self._check_open()
        ids = TurnIds(new_id(), new_id(), new_id())

        async def decide(acquire: Acquire, state: Conversation) -> Events:
            check_access(state, caller.owner_id)
            check_unlocked(state)
            answered = await find_answered_question(self._log, conversation_id, message_id)
            settings = answered.settings(model, default_model)
            if settings.left_open:
                settings = await self._agents.resolve(state.owner_id, state.agent_id, settings)
            superseded = await self._log.superseded(conversation_id, answered.from_version)
            events = turn_starts.answer_again(state, caller.origin(), answered.question, settings, ids, superseded)
            await acquire(state.owner_id)
            return events

        return (await self._record(caller, conversation_id, ids.turn, decide))[1]

    async def resume(
        self, caller: Caller, conversation_id: UUID, turn_id: UUID, results: ClientMessage
    ) -> tuple[AcceptedTurn, int]:
        """Give a turn the tool results that it waits for, and let its model go on.

        Return also the `seq` of the last frame before it goes on.

        Raises:
            TurnNotActiveError: the turn waits for no results.
            InvalidContentError: they are not one result for each open call.
        """
        self._check_open()
        draft, answer_id = await self._commands.draft(results), new_id()
        before = (await self._executor.state(conversation_id, owner_id=caller.owner_id)).turn
        if before is not None and before.waiting:
            # A run that has just suspended it here is about to drop its lease.
            await self._runner.wait_until_ended(turn_id)

        async with self._leases.starting(conversation_id, turn_id) as acquire:

            async def decide(state: Conversation) -> Events:
                events = running_turns.resume_turn(state, caller.origin(), turn_id, draft, answer_id)
                await acquire(state.owner_id)  # only now, because a refused caller must leave the turn's lease alone
                return events

            committed = await self._executor.execute(
                conversation_id, decide, caller.idempotency, owner_id=caller.owner_id
            )
            turn, resumed = committed.state.turn, committed.events[-1]
            assert turn is not None
            key = TurnKey(conversation_id, turn_id, turn.first_version)
            replay, frames = await self._reader.whole(key)
            assert replay.frames is not None and replay.started is not None
            start = RunStart(replay.frames, frames, resumed.originator_version, caller.origin(), replay.answer)
            self._runner.begin(key, replay.started, start, committed.position or 0)
        return AcceptedTurn(key, _last(committed)), len(frames)

    async def start_queued(self, key: TurnKey, queued: TurnQueued) -> None:
        """Start a queued turn whose lease this process holds.

        Raises:
            ConversationLockedError: other turns come before it.
            TurnNotActiveError: it was cancelled, or another process has started it.
            LimitReachedError: its owner has as many running turns as it may.
        """
        self._check_open()

        def caller(state: Conversation) -> Caller:
            return Caller(state.owner_id, queued.actor, queued.request_id)

        async def decide(state: Conversation) -> Events:
            check_next(state, queued.turn_id)
            superseded = await self._superseded(key.conversation_id, queued.from_version)
            settings = await self._agents.resolve(state.owner_id, state.agent_id, settings_of(queued))
            origin = caller(state).origin()
            events = turn_starts.start_queued_turn(state, origin, queued, new_id(), settings, superseded)
            await acquire(state.owner_id)
            return events

        async with self._leases.starting_queued(key.conversation_id, queued.turn_id) as acquire:
            committed = await self._executor.execute(key.conversation_id, decide)
        await self._begin(caller(committed.state), committed)

    async def drain(self, timeout_s: float) -> None:
        """Refuse new turns, let running ones finish in `timeout_s`, then interrupt them."""
        self._draining = True
        await self._queue.close()
        await self._runner.drain(timeout_s)

    async def _record(
        self, caller: Caller, conversation_id: UUID, turn_id: UUID, decide: TurnDecision
    ) -> tuple[Committed, AcceptedTurn]:
        """Record a new turn, and run or queue it."""
        async with self._leases.starting(conversation_id, turn_id) as acquire:
            decision = partial(decide, acquire)
            committed = await self._executor.execute(
                conversation_id, decision, caller.idempotency, owner_id=caller.owner_id
            )
            return committed, await self._begin(caller, committed)

    async def _begin(self, caller: Caller, committed: Committed) -> AcceptedTurn:
        """Run a turn that was recorded as started, or queue one recorded as queued."""
        event = committed.events[-1]
        assert isinstance(event, TurnQueued | TurnStarted)
        key = TurnKey(event.originator_id, event.turn_id, event.originator_version)
        if isinstance(event, TurnQueued):
            await self._queue.add(key)
        elif not event.generate:
            await self._leases.extend_for_client(key.conversation_id, key.turn_id)
        else:
            question = next((each for each in committed.events if _is_question(each, event)), None)
            replay = await self._reader.begin(key, question)
            frames = replay.take([Recorded(committed.position or 0, event)])
            assert replay.frames is not None
            start = RunStart(replay.frames, frames, event.originator_version, caller.origin())
            self._runner.begin(key, event, start, committed.position or 0)
        return AcceptedTurn(key, _last(committed))

    async def _interrupt(self, caller: Caller, state: Conversation) -> None:
        """Cancel the turn that the newest one waits for."""
        if state.turn is None:
            return
        try:
            await self._cancels.cancel(caller._replace(idempotency=None), state.id, state.turn.id)
        except (TurnNotActiveError, StoreUnavailableError) as error:
            # The queued turn starts when this one ends.
            _log.info("turn %s is not interrupted: %s", state.turn.id, error)

    async def _superseded(self, conversation_id: UUID, from_version: int | None) -> Superseded | None:
        return None if from_version is None else await self._log.superseded(conversation_id, from_version)

    async def _version_of(self, conversation_id: UUID, message_id: UUID) -> int:
        place = await self._log.find_message(conversation_id, message_id)
        if place is None or place.superseded:
            raise MessageNotFoundError(message_id)
        return place.version

    def _check_open(self) -> None:
        if self._draining:
            raise StoreUnavailableError("The server is being stopped.")


def _last(committed: Committed) -> Recorded:
    """Return the last event of a command that recorded some."""
    assert committed.position is not None
    return Recorded(committed.position, committed.events[-1])


def _is_question(event: ConversationEvent, started: TurnStarted) -> TypeGuard[MessageAdded]:
    return isinstance(event, MessageAdded) and event.message_id == started.user_message_id
