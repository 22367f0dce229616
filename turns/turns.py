"""Turns: starting them, following them, stopping them, and ending them when the server goes."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import NamedTuple
from uuid import UUID

from domain import decisions
from domain.conversation import Conversation, fold
from domain.decisions import Answer, Events, TurnSettings
from domain.events import MessageAdded, TurnStarted
from eventlog.clock import new_id
from eventlog.commands import Caller, Commands, Said, count_tokens
from eventlog.conversations import Committed
from eventlog.errors import StoreUnavailableError
from eventlog.feed import Feed
from eventlog.tokens import Tokenizer
from projections.context import Context
from projections.progress import Progress
from turns.frames import Frame
from turns.gateway import ModelGateway
from turns.model_call import ModelRequest
from turns.model_errors import ModelError
from turns.run import Stop, TurnRun
from turns.turn_log import TurnKey, replay_turn

CONTEXT_WAIT_S = 5.0
DEFAULT_CONTEXT_TOKENS = 32_000
FOLLOW_POLL_S = 1.0

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
        feed: Feed,
        max_context_tokens: int | None = None,
    ) -> None:
        self._commands = commands
        self._conversations = commands.conversations
        self._tokenizer = tokenizer
        self._gateway = gateway
        self._context = context
        self._progress = progress
        self._feed = feed
        self._max_context_tokens = max_context_tokens
        self._running: dict[UUID, TurnRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(self, caller: Caller, conversation_id: UUID, said: Said, settings: TurnSettings) -> StartedTurn:
        """Record the user's message and let the model answer it.

        Raises:
            ConversationLockedError: another turn is active.
            DomainError: the conversation or the content does not allow it.
            StoreUnavailableError: the log does not answer, or this server is being stopped.
        """
        self._check_open()
        draft, turn_id, answer_id = self._commands.draft(said), new_id(), new_id()

        def decide(state: Conversation) -> Events:
            origin = caller.origin()
            return decisions.start_turn(state, origin, draft, settings, turn_id=turn_id, answer_id=answer_id)

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
        origin = caller.origin()
        begun = decisions.start_conversation(new_id(), origin, agent_id=agent_id, title=title)
        state = fold(None, begun)
        assert state is not None
        draft = self._commands.draft(said)
        turn = decisions.start_turn(state, origin, draft, settings, turn_id=new_id(), answer_id=new_id())
        committed = await self._conversations.start([*begun, *turn], caller.idempotency)
        return self._begin(caller, committed)

    async def cancel(self, caller: Caller, conversation_id: UUID, turn_id: UUID, first_version: int) -> None:
        """Stop a turn, wherever it runs; what was said is kept. `first_version` is that of its user message.

        Raises:
            TurnNotActiveError: it has ended already.
            StoreUnavailableError: the log does not answer.
        """
        run = self._running.get(turn_id)
        if run is not None:
            await run.stop(Stop(caller.origin(), idempotency=caller.idempotency))
            return
        key = TurnKey(conversation_id, turn_id, first_version)

        async def decide(state: Conversation) -> Events:
            replay, _ = await replay_turn(self._conversations.log, key)
            tokens = count_tokens(self._tokenizer, replay.content())
            answer = Answer(replay.content(), tokens, self._tokenizer.name)
            return decisions.cancel_turn(state, caller.origin(), turn_id, answer)

        await self._conversations.execute(conversation_id, decide, caller.idempotency)

    async def follow(self, key: TurnKey, after_seq: int = 0) -> AsyncGenerator[list[Frame]]:
        """Yield the frames of a turn after `after_seq`, until its last: live from here, else from the log.

        Raises:
            StoreUnavailableError: the log does not answer.
        """
        run = self._running.get(key.turn_id)
        frames = self._follow_log(key) if run is None else run.stream.follow()
        async for batch in frames:
            wanted = [frame for frame in batch if frame.seq > after_seq or frame.terminal]
            if wanted:
                yield wanted

    async def drain(self, timeout_s: float) -> None:
        """Take no new turns; let the running ones finish for so long, then end them in the log as interrupted."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        stop = "interrupted", "The server was stopped."
        runs = [run.stop(Stop(run.origin, *stop)) for run in self._running.values()]
        await asyncio.gather(*runs)

    def _check_open(self) -> None:
        if self._draining:
            raise StoreUnavailableError("The server is being stopped.")

    def _begin(self, caller: Caller, committed: Committed) -> StartedTurn:
        message, started = committed.events[-2:]
        assert isinstance(message, MessageAdded) and isinstance(started, TurnStarted)
        origin = caller.origin()
        run = TurnRun(self._conversations, self._tokenizer, message, started, origin)
        self._running[started.turn_id] = run
        task = run.begin(self._gateway, lambda: self._prepare(started, committed.position or 0))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(done, started.turn_id))
        return StartedTurn(run.key, committed)

    def _finished(self, task: asyncio.Task[None], turn_id: UUID) -> None:
        self._tasks.discard(task)
        self._running.pop(turn_id, None)
        if not task.cancelled() and (error := task.exception()):
            _log.error("turn %s was left open", turn_id, exc_info=error)

    async def _prepare(self, started: TurnStarted, position: int) -> ModelRequest:
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

    async def _follow_log(self, key: TurnKey) -> AsyncGenerator[list[Frame]]:
        replay, frames = await replay_turn(self._conversations.log, key)
        with self._feed.subscribed() as log:
            while True:
                if frames:
                    yield frames
                if replay.ended:
                    return
                await log.grown(FOLLOW_POLL_S)
                events = await self._conversations.log.events(key.conversation_id, replay.next_version)
                frames = replay.take(events)
