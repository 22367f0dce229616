"""Turns: starting them, following them, stopping them, and ending them when the server goes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import NamedTuple
from uuid import UUID

from domain import decisions
from domain.conversation import Conversation, fold
from domain.decisions import Answer, Draft, Events, Origin, TurnSettings
from domain.errors import ConversationLockedError, ConversationNotFoundError, TurnNotActiveError
from domain.events import ConversationDeleted, ConversationEvent, MessageAdded, TurnCancelled, TurnFailed, TurnStarted
from eventlog.broadcast import Broadcast
from eventlog.clock import new_id, now
from eventlog.commands import Caller, Commands, Said, count_tokens
from eventlog.conversations import Committed
from eventlog.errors import StoreUnavailableError
from eventlog.tokens import Tokenizer
from projections.context import Context
from projections.progress import Progress
from turns.frames import Frame
from turns.gateway import ModelGateway
from turns.leases import Leases
from turns.model_call import ModelRequest
from turns.model_errors import ModelError
from turns.run import Stop, TurnRun
from turns.stream import TurnStream
from turns.tail import TurnTail
from turns.turn_log import TurnKey, replay_turn

CONTEXT_WAIT_S = 5.0
DEFAULT_CONTEXT_TOKENS = 32_000
INTERRUPT_ATTEMPTS = 10

SERVER_GONE = "The server that ran this turn is gone."
CLIENT_LOST = "Nothing was heard of the client that runs the model for 60 s."

_log = logging.getLogger(__name__)


class StartedTurn(NamedTuple):
    """A turn that was just recorded, and what recorded it."""

    key: TurnKey
    committed: Committed


class Turns:
    """The turns of this process; turns of other processes can be followed and cancelled as well."""

    def __init__(
        self,
        commands: Commands,
        tokenizer: Tokenizer,
        gateway: ModelGateway,
        context: Context,
        progress: Progress,
        broadcast: Broadcast,
        leases: Leases,
        max_context_tokens: int | None = None,
    ) -> None:
        self._commands = commands
        self._conversations = commands.conversations
        self._tokenizer = tokenizer
        self._gateway = gateway
        self._context = context
        self._progress = progress
        self._broadcast = broadcast
        self._max_context_tokens = max_context_tokens
        self._leases = leases
        self._running: dict[UUID, TurnRun] = {}
        self._tails: dict[UUID, TurnTail] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(
        self, caller: Caller, conversation_id: UUID, said: Said, settings: TurnSettings, *, interrupt: bool = False
    ) -> StartedTurn:
        """Record the user's message and let the model answer it; `interrupt` stops the turn that is active, if one is.

        Raises:
            ConversationLockedError: another turn is active.
            DomainError: the conversation or the content does not allow it.
            StoreUnavailableError: the log does not answer, or this server is being stopped.
        """
        self._check_open()
        draft = await self._commands.draft(said)
        for _ in range(INTERRUPT_ATTEMPTS if interrupt else 0):
            try:
                return await self._start(caller, conversation_id, draft, settings)
            except ConversationLockedError as error:
                with suppress(TurnNotActiveError):  # it has ended meanwhile
                    await self.cancel(caller._replace(idempotency=None), conversation_id, error.active_turn_id)
        return await self._start(caller, conversation_id, draft, settings)

    async def _start(self, caller: Caller, conversation_id: UUID, draft: Draft, settings: TurnSettings) -> StartedTurn:
        turn_id, answer_id = new_id(), new_id()

        def decide(state: Conversation) -> Events:
            origin = caller.origin()
            return decisions.start_turn(state, origin, draft, settings, turn_id=turn_id, answer_id=answer_id)

        async with self._leased(conversation_id, turn_id, settings):
            committed = await self._conversations.execute(conversation_id, decide, caller.idempotency)
        return self._begin(caller, committed)

    async def start_with_conversation(
        self, caller: Caller, said: Said, settings: TurnSettings, *, agent_id: str | None, title: str | None
    ) -> StartedTurn:
        """The same, in a conversation that starts with it.

        Raises:
            DomainError: the content does not allow it.
            StoreUnavailableError: the log does not answer, or this server is being stopped.
        """
        self._check_open()
        draft, turn_id = await self._commands.draft(said), new_id()
        origin = caller.origin()
        begun = decisions.start_conversation(new_id(), origin, agent_id=agent_id, title=title)
        state = fold(None, begun)
        assert state is not None
        turn = decisions.start_turn(state, origin, draft, settings, turn_id=turn_id, answer_id=new_id())
        async with self._leased(state.id, turn_id, settings):
            committed = await self._conversations.start([*begun, *turn], caller.idempotency)
        return self._begin(caller, committed)

    async def cancel(self, caller: Caller, conversation_id: UUID, turn_id: UUID) -> TurnKey:
        """Stop a turn, wherever it runs; what was said is kept.

        Raises:
            TurnNotActiveError: it has ended already, or never was.
            DomainError: the conversation does not allow it.
            StoreUnavailableError: the log does not answer.
        """
        state = await self._conversations.state(conversation_id)
        if state.owner_id != caller.actor:
            raise ConversationNotFoundError(conversation_id)
        turn = state.turn
        if turn is None or turn.id != turn_id:
            raise TurnNotActiveError(turn_id)
        key = TurnKey(conversation_id, turn_id, turn.started_version - 1)
        run = self._running.get(turn_id)
        if run is not None:
            await run.stop(Stop(caller.origin(), idempotency=caller.idempotency))
            return key

        async def decide(state: Conversation) -> Events:
            return decisions.cancel_turn(state, caller.origin(), turn_id, await self._said_so_far(key))

        await self._conversations.execute(conversation_id, decide, caller.idempotency)
        return key

    async def follow(self, key: TurnKey, after_seq: int = 0) -> AsyncGenerator[list[Frame]]:
        """Yield the frames of a turn after `after_seq`, until its last: live from here, else from the log.

        A store that is away is waited for: a stream ends with its turn and not before.
        """
        run = self._running.get(key.turn_id)
        if run is not None:
            async for frames in _wanted(run.stream, after_seq):
                yield frames
                after_seq = frames[-1].seq
                if frames[-1].terminal:
                    return
        # What ran here may be left open, by a store that stays away; whoever ends it then does so in the log.
        with self._tailed(key) as stream:
            async for frames in _wanted(stream, after_seq):
                yield frames

    async def drain(self, timeout_s: float) -> None:
        """Take no new turns; let the running ones finish for so long, then end them in the log as interrupted."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        stop = "interrupted", "The server was stopped."
        runs = [run.stop(Stop(run.origin, *stop)) for run in self._running.values()]
        await asyncio.gather(*runs)

    async def recover(self, conversation_id: UUID, turn_id: UUID) -> None:
        """End a turn whose process is gone, if it has not ended; what it recorded is kept as an interrupted message.

        Raises:
            DomainError: the turn cannot be ended.
            StoreUnavailableError: the log does not answer.
        """
        try:
            state = await self._conversations.state(conversation_id)
        except ConversationNotFoundError:
            return  # its start was never recorded
        if state.turn is None or state.turn.id != turn_id:
            return
        key = TurnKey(conversation_id, turn_id, state.turn.started_version - 1)
        origin = Origin(state.owner_id, now())

        reason = ("interrupted", SERVER_GONE) if state.turn.generate else ("client_lost", CLIENT_LOST)

        async def decide(newest: Conversation) -> Events:
            answer = await self._said_so_far(key)
            return decisions.fail_turn(newest, origin, turn_id, answer, reason=reason[0], detail=reason[1])

        try:
            await self._conversations.execute(conversation_id, decide)
        except TurnNotActiveError:
            return  # another process was faster
        _log.warning("turn %s was ended: %s", turn_id, reason[1])

    @asynccontextmanager
    async def _leased(self, conversation_id: UUID, turn_id: UUID, settings: TurnSettings) -> AsyncGenerator[None]:
        """Hold a lease while the start of a turn is recorded, and from then on if it was and runs here."""
        if not settings.generate:
            await self._leases.lend(conversation_id, turn_id)
            yield
            return
        await self._leases.take(conversation_id, turn_id)
        try:
            yield
        except (StoreUnavailableError, asyncio.CancelledError):
            self._leases.abandon(turn_id)  # it may have been recorded all the same
            raise
        except BaseException:
            self._leases.give_up(turn_id)
            raise

    async def _said_so_far(self, key: TurnKey) -> Answer:
        replay, _ = await replay_turn(self._conversations.log, key)
        content = replay.content()
        return Answer(content, await count_tokens(self._tokenizer, content), self._tokenizer.name)

    def _check_open(self) -> None:
        if self._draining:
            raise StoreUnavailableError("The server is being stopped.")

    def _begin(self, caller: Caller, committed: Committed) -> StartedTurn:
        message, started = committed.events[-2:]
        assert isinstance(message, MessageAdded) and isinstance(started, TurnStarted)
        if not started.generate:
            key = TurnKey(started.originator_id, started.turn_id, message.originator_version)
            return StartedTurn(key, committed)
        origin = caller.origin()
        run = TurnRun(self._conversations, self._tokenizer, message, started, origin, self._progress)
        self._running[started.turn_id] = run
        watching = ExitStack()
        heard = self._broadcast.heard(started.originator_id, lambda item: self._stop_if_ended(run, item.event))
        watching.enter_context(heard)
        task = run.begin(self._gateway, lambda: self._prepare(started, committed.position or 0))
        self._tasks.add(task)
        task.add_done_callback(lambda _: watching.close())
        task.add_done_callback(lambda done: self._finished(done, started.turn_id))
        return StartedTurn(run.key, committed)

    def _finished(self, task: asyncio.Task[None], turn_id: UUID) -> None:
        self._tasks.discard(task)
        self._running.pop(turn_id, None)
        if task.cancelled():
            self._leases.abandon(turn_id)
        elif error := task.exception():
            self._leases.abandon(turn_id)
            _log.error("turn %s was left open", turn_id, exc_info=error)
        else:
            self._leases.give_up(turn_id)

    def _stop_if_ended(self, run: TurnRun, event: ConversationEvent) -> None:
        """Stop a turn that the log says is over: cancelled or ended elsewhere, or deleted with its conversation."""
        over = isinstance(event, TurnCancelled | TurnFailed) and event.turn_id == run.key.turn_id
        if over or isinstance(event, ConversationDeleted):
            task = asyncio.create_task(run.stop(Stop(run.origin, "interrupted")))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _prepare(self, started: TurnStarted, position: int) -> ModelRequest:
        first = started.originator_version
        if await self._conversations.log.turn_end(started.originator_id, started.turn_id, first):
            raise asyncio.CancelledError  # it was ended elsewhere before this process began to listen for that
        if "context" in await self._progress.wait(position, CONTEXT_WAIT_S):
            raise ModelError("model_unavailable", "The context of the conversation is not up to date.")
        budget = started.max_context_tokens or await self.context_tokens(started.model)
        window = await self._context.window(started.originator_id, budget)
        return ModelRequest(
            model=started.model,
            messages=window.messages,
            temperature=started.temperature,
            max_output_tokens=started.max_output_tokens,
        )

    async def context_tokens(self, model: str) -> int:
        """Return how many tokens a model is sent at most where the client does not say."""
        known = self._max_context_tokens or await self._gateway.context_window(model)
        return known or DEFAULT_CONTEXT_TOKENS

    @contextmanager
    def _tailed(self, key: TurnKey) -> Generator[TurnStream]:
        """Lend the frames of a turn that does not run here; its readers share them."""
        tail = self._tails.get(key.turn_id)
        if tail is None:
            tail = self._tails[key.turn_id] = TurnTail(self._conversations.log, self._broadcast, self._progress, key)
        tail.readers += 1
        try:
            yield tail.stream
        finally:
            tail.readers -= 1
            if not tail.readers:
                del self._tails[key.turn_id]
                tail.close()


async def _wanted(stream: TurnStream, after_seq: int) -> AsyncGenerator[list[Frame]]:
    """Yield what a reader of a stream has not seen, and the last frame in any case."""
    async for frames in stream.follow(after_seq):
        if wanted := [frame for frame in frames if frame.seq > after_seq or frame.terminal]:
            yield wanted
