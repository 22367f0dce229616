"""Turns: what clients may ask of them, each method one command that is recorded before its model is asked."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple, TypeGuard
from uuid import UUID

from commands.commands import Caller, ClientMessage, Commands
from commands.executor import Committed
from domain.conversation import Conversation, fold
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.conversations import Events
from domain.decisions.guards import check_access, check_next, check_unlocked
from domain.decisions.turn_starts import Superseded, TurnIds, TurnSettings
from domain.errors import DomainError, MessageNotFoundError, TurnNotActiveError
from domain.events import ConversationEvent, MessageAdded, TurnQueued, TurnStarted
from eventlog.clock import new_id
from eventlog.errors import IdempotencyKeyTakenError, StoreUnavailableError
from eventlog.mapper import Recorded
from turns.cancels import Cancels
from turns.frames.replay import TurnKey, TurnReader
from turns.leases import Leases
from turns.model_run import RunStart
from turns.queue import TurnQueue
from turns.regeneration import Answers
from turns.turn_runner import TurnRunner

OnBusy = Literal["reject", "queue", "interrupt"]

_log = logging.getLogger(__name__)


class AcceptedTurn(NamedTuple):
    """A turn that was just recorded as started, queued or resumed, and the event that says so."""

    key: TurnKey
    recorded: Recorded


class Turns:
    """The commands of turns. Each raises the domain's errors, and StoreUnavailableError, also while the server ends."""

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
        self._conversations = commands.conversations
        self._log = commands.conversations.log
        self._reader = reader
        self._runner = runner
        self._queue = queue
        self._cancels = cancels
        self._leases = leases
        self._answers = Answers(self._log)
        self._draining = False

    async def start(
        self,
        caller: Caller,
        conversation_id: UUID,
        said: ClientMessage,
        settings: TurnSettings,
        *,
        on_busy: OnBusy = "reject",
        replace_from: UUID | None = None,
    ) -> AcceptedTurn:
        """Record the user's message and let the model answer it.

        While another turn is active it is refused, or queued; to interrupt is to go ahead of the queue and to cancel
        the active turn. With `replace_from` the message takes the place of that one and of all after it.

        Raises:
            ConversationLockedError: another turn is active.
            MessageNotFoundError: there is no message to replace.
        """
        self._check_open()
        draft, ids = await self._commands.draft(said), TurnIds(new_id(), new_id(), new_id())

        async def decide(state: Conversation) -> Events:
            origin = caller.origin()
            check_access(state, caller.actor)
            if on_busy == "reject":
                check_unlocked(state)
            from_version = await self._place(conversation_id, replace_from) if replace_from else None
            if state.locked_by is not None and on_busy != "reject":
                ahead = on_busy == "interrupt"
                return turn_starts.queue_turn(
                    state, origin, draft, settings, ids, from_version=from_version, ahead=ahead
                )
            superseded = await self._superseded(conversation_id, from_version)
            return turn_starts.start_turn(state, origin, draft, settings, ids, superseded)

        async with self._leased(conversation_id, ids.turn) as take:
            await take()
            committed = await self._conversations.execute(conversation_id, decide, caller.idempotency)
            begun = await self._begin(caller, committed)
        if on_busy == "interrupt" and isinstance(committed.events[-1], TurnQueued):
            await self._interrupt(caller, committed.state)
        return begun

    async def start_with_conversation(
        self, caller: Caller, said: ClientMessage, settings: TurnSettings, *, agent_id: str | None, title: str | None
    ) -> AcceptedTurn:
        """The same, in a conversation that starts with it."""
        self._check_open()
        draft, ids = await self._commands.draft(said), TurnIds(new_id(), new_id(), new_id())
        origin = caller.origin()
        begun = conversations.start_conversation(new_id(), origin, agent_id=agent_id, title=title)
        state = fold(None, begun)
        assert state is not None
        turn = turn_starts.start_turn(state, origin, draft, settings, ids)
        async with self._leased(state.id, ids.turn) as take:
            await take()
            committed = await self._conversations.start([*begun, *turn], caller.idempotency)
            return await self._begin(caller, committed)

    async def regenerate(
        self, caller: Caller, conversation_id: UUID, message_id: UUID, model: str | None, default_model: str
    ) -> AcceptedTurn:
        """Let a model answer a question once more; the old answer and all after it are superseded.

        `message_id` is the answer, or the question itself. What is not said is as it was when it was answered before.

        Raises:
            ConversationLockedError: another turn is active.
            MessageNotFoundError: there is no such message, or it was superseded.
            InvalidContentError: it is neither a user's message nor the answer to one.
        """
        self._check_open()
        ids = TurnIds(new_id(), new_id(), new_id())

        async def decide(state: Conversation) -> Events:
            check_access(state, caller.actor)
            check_unlocked(state)
            answered = await self._answers.of(conversation_id, message_id)
            settings = answered.settings(model, default_model)
            superseded = await self._log.superseded(conversation_id, answered.from_version)
            return turn_starts.answer_again(state, caller.origin(), answered.question, settings, ids, superseded)

        async with self._leased(conversation_id, ids.turn) as take:
            await take()
            committed = await self._conversations.execute(conversation_id, decide, caller.idempotency)
            return await self._begin(caller, committed)

    async def resume(
        self, caller: Caller, conversation_id: UUID, turn_id: UUID, results: ClientMessage
    ) -> tuple[AcceptedTurn, int]:
        """Give a turn that waits for tool results these, and let its model go on; returns also its last frame's `seq`.

        Raises:
            TurnNotActiveError: it does not wait for any.
            InvalidContentError: they are not those of the open calls, one each.
        """
        self._check_open()
        draft, answer_id = await self._commands.draft(results), new_id()
        before = (await self._conversations.state(conversation_id)).turn
        if before is not None and before.waiting:
            await self._runner.wait_until_gone(turn_id)  # where it ran until now, it is about to give its lease up

        async with self._leased(conversation_id, turn_id) as take:

            async def decide(state: Conversation) -> Events:
                events = running_turns.resume_turn(state, caller.origin(), turn_id, draft, answer_id)
                await take()  # not before: whoever is refused leaves the lease of the turn alone
                return events

            committed = await self._conversations.execute(conversation_id, decide, caller.idempotency)
            turn, resumed = committed.state.turn, committed.events[-1]
            assert turn is not None
            key = TurnKey(conversation_id, turn_id, turn.first_version)
            replay, shown = await self._reader.whole(key)
            assert replay.frames is not None and replay.started is not None
            begun = RunStart(replay.frames, shown, resumed.originator_version, caller.origin(), replay.answer)
            self._runner.begin(key, replay.started, begun, committed.position or 0)
        return AcceptedTurn(key, _last(committed)), len(shown)

    async def start_queued(self, key: TurnKey, queued: TurnQueued) -> None:
        """Start a turn whose turn it is; its lease is held.

        Raises:
            ConversationLockedError: others come before it.
            TurnNotActiveError: it was cancelled, or another process has started it.
        """
        self._check_open()
        caller = Caller(queued.actor, queued.request_id)

        async def decide(state: Conversation) -> Events:
            check_next(state, queued.turn_id)
            superseded = await self._superseded(key.conversation_id, queued.from_version)
            return turn_starts.start_queued_turn(state, caller.origin(), queued, new_id(), superseded)

        committed = await self._conversations.execute(key.conversation_id, decide)
        await self._begin(caller, committed)

    async def drain(self, timeout_s: float) -> None:
        """Take no new turns; let the running ones finish for so long, then end them in the log as interrupted."""
        self._draining = True
        await self._queue.close()
        await self._runner.drain(timeout_s)

    async def _begin(self, caller: Caller, committed: Committed) -> AcceptedTurn:
        """Let a turn run that was recorded as started, and one wait that was recorded as queued."""
        event = committed.events[-1]
        assert isinstance(event, TurnQueued | TurnStarted)
        key = TurnKey(event.originator_id, event.turn_id, event.originator_version)
        if isinstance(event, TurnQueued):
            await self._queue.add(key)
        elif not event.generate:
            await self._leases.extend_for_client(key.conversation_id, key.turn_id)
        else:
            question = next((said for said in committed.events if _is_question(said, event)), None)
            replay = await self._reader.begin(key, question)
            shown = replay.take([Recorded(committed.position or 0, event)])
            assert replay.frames is not None
            begun = RunStart(replay.frames, shown, event.originator_version, caller.origin())
            self._runner.begin(key, event, begun, committed.position or 0)
        return AcceptedTurn(key, _last(committed))

    async def _interrupt(self, caller: Caller, state: Conversation) -> None:
        """Cancel the turn that the newest one waits for."""
        if state.turn is None:
            return
        try:
            await self._cancels.cancel(caller._replace(idempotency=None), state.id, state.turn.id)
        except (TurnNotActiveError, StoreUnavailableError) as error:
            _log.info("turn %s is not interrupted: %s", state.turn.id, error)  # what was queued starts when it ends

    async def _superseded(self, conversation_id: UUID, from_version: int | None) -> Superseded | None:
        return None if from_version is None else await self._log.superseded(conversation_id, from_version)

    async def _place(self, conversation_id: UUID, message_id: UUID) -> int:
        place = await self._log.find_message(conversation_id, message_id)
        if place is None or place.superseded:
            raise MessageNotFoundError(message_id)
        return place.version

    @asynccontextmanager
    async def _leased(self, conversation_id: UUID, turn_id: UUID) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """Lend what takes a lease, to be called before a turn is recorded; it is held from then on if the turn was."""
        taken = False

        async def take() -> None:
            nonlocal taken
            await self._leases.acquire(conversation_id, turn_id)
            taken = True

        try:
            yield take
        except (DomainError, IdempotencyKeyTakenError):
            if taken:
                self._leases.drop(turn_id)
            raise
        except BaseException:
            if taken:
                self._leases.let_expire(turn_id)  # it may have been recorded all the same
            raise

    def _check_open(self) -> None:
        if self._draining:
            raise StoreUnavailableError("The server is being stopped.")


def _last(committed: Committed) -> Recorded:
    """Return the last event of a command that recorded some."""
    assert committed.position is not None
    return Recorded(committed.position, committed.events[-1])


def _is_question(event: ConversationEvent, started: TurnStarted) -> TypeGuard[MessageAdded]:
    return isinstance(event, MessageAdded) and event.message_id == started.user_message_id
