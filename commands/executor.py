"""Executes commands: load the state, decide, append, retry after conflicts."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from domain.conversation import Conversation, evolve
from domain.decisions.conversations import Events
from domain.errors import ConversationNotFoundError, DomainError, WriteConflictError
from eventlog.background import Background
from eventlog.errors import LogError, StoreUnavailableError, VersionTakenError
from eventlog.lock_table import LockTable
from eventlog.log import Log
from eventlog.mapper import SNAPSHOT_INTERVAL, new_row
from eventlog.retry import retry
from eventlog.writer import Appender, Idempotency

CONFLICT_PAUSES_S = tuple(0.001 * min(attempt, 20) for attempt in range(99))
"""The waits after conflicts with other processes.

They grow, so that the others can finish.
"""
CACHED_STATES = 10_000

Decision = Callable[[Conversation], Events | Awaitable[Events]]
_log = logging.getLogger(__name__)


class Committed(NamedTuple):
    """The result of a command: its events and the state after them.

    `position` is that of the last event, or None without events.
    """

    state: Conversation
    events: Events
    position: int | None


class CommandExecutor:
    """Executes the commands of one process.

    Commands on one conversation run one after another. If another process records the next version first, the command
    is decided again on the newer state. States are cached, and read again after a conflict, a refusal, or a decision
    without events.
    """

    def __init__(self, log: Log, writer: Appender, conflict_pauses_s: Sequence[float] = CONFLICT_PAUSES_S) -> None:
        self.log = log
        self._conflict_pauses_s = conflict_pauses_s
        self._writer = writer
        self._states: OrderedDict[UUID, Conversation] = OrderedDict()
        self._locks = LockTable[UUID]()
        self._snapshots = Background()
        writer.on_new_generation(self.forget)

    async def start(self, events: Events, idempotency: Idempotency | None = None) -> Committed:
        """Record the first events of a conversation.

        Raises:
            IdempotencyKeyTakenError: another command recorded the key first.
            StoreUnavailableError: the database does not answer.
        """
        return await self._record(None, events, idempotency, None)

    async def execute(
        self,
        conversation_id: UUID,
        decide: Decision,
        idempotency: Idempotency | None = None,
        *,
        owner_id: str | None = None,
    ) -> Committed:
        """Record the events that `decide` returns for the conversation's state.

        With `owner_id` the conversation has to be this owner's.

        Raises:
            ConversationNotFoundError: there is no such conversation, or another owner has it.
            DomainError: `decide` refuses on the newest state.
            WriteConflictError: other processes recorded the next version first at every retry.
            IdempotencyKeyTakenError: another command recorded the key first.
            StoreUnavailableError: the database does not answer.
        """

        async def attempt() -> Committed:
            generation = self._writer.generation
            state, events = await self._decide(conversation_id, decide)
            if not events:
                return Committed(state, events, None)
            return await self._record(state, events, idempotency, generation)

        await self._check_owner(conversation_id, owner_id)
        async with self._locks.hold(conversation_id):
            try:
                return await retry(attempt, VersionTakenError, self._conflict_pauses_s)
            except VersionTakenError:
                raise WriteConflictError(conversation_id) from None

    async def state(self, conversation_id: UUID, *, owner_id: str | None = None) -> Conversation:
        """Return the newest state of a conversation.

        With `owner_id` the conversation has to be this owner's.

        Raises:
            ConversationNotFoundError: there is no such conversation, or another owner has it.
            StoreUnavailableError: the database does not answer.
        """
        await self._check_owner(conversation_id, owner_id)
        return await self._load(conversation_id, self._states.get(conversation_id), self._writer.generation)

    async def preload(self, conversation_ids: Sequence[UUID]) -> None:
        """Cache the states of short conversations, for commands that follow at once.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        generation = self._writer.generation
        states = await self.log.short_states([id_ for id_ in conversation_ids if id_ not in self._states])
        if generation == self._writer.generation:
            for state in states:
                if state.id not in self._states:
                    self._remember(state)

    def discard(self, conversation_ids: Iterable[UUID]) -> None:
        """Remove the states of conversations from the cache."""
        for conversation_id in conversation_ids:
            self._states.pop(conversation_id, None)

    async def close(self) -> None:
        """Wait until all snapshots are written."""
        await self._snapshots.finish()

    def forget(self) -> None:
        """Forget all states, as the log may have lost its newest events."""
        self._states.clear()

    async def _check_owner(self, conversation_id: UUID, owner_id: str | None) -> None:
        """Refuse another owner's conversation as fast as one that does not exist.

        Loading its state, or waiting for its lock, would tell by the time that it exists.
        """
        if owner_id is None:
            return
        known = self._states.get(conversation_id)
        if known is not None and known.owner_id == owner_id:
            return
        if not await self.log.belongs_to(owner_id, conversation_id):
            raise ConversationNotFoundError(conversation_id)

    async def _decide(self, conversation_id: UUID, decide: Decision) -> tuple[Conversation, Events]:
        cached, generation = self._states.get(conversation_id), self._writer.generation
        if cached is None:
            state = await self._load(conversation_id, None, generation)
            return state, await _events(decide, state)
        # A refusal or a decision without events must rest on the newest state, as no append will detect a stale one.
        try:
            events = await _events(decide, cached)
        except DomainError:
            state = await self._load(conversation_id, cached, generation)
            if state is cached:
                raise
        else:
            if events:
                return cached, events
            state = await self._load(conversation_id, cached, generation)
        return state, await _events(decide, state)

    async def _load(self, conversation_id: UUID, known: Conversation | None, generation: int) -> Conversation:
        """Return the newest state, folded from `known` if that is of this generation."""
        while True:
            current = self._writer.generation
            state = await self.log.state(conversation_id, known if generation == current else None)
            if current == self._writer.generation:
                break
        if state is None:
            self._states.pop(conversation_id, None)
            raise ConversationNotFoundError(conversation_id)
        if known is not None and generation == current and state.version == known.version:
            state = known
        self._remember(state)
        return state

    async def _record(
        self, state: Conversation | None, events: Events, idempotency: Idempotency | None, generation: int | None
    ) -> Committed:
        rows = list(map(new_row, events))
        before = state.version if state else 0
        for event in events:
            state = evolve(state, event)
        assert state is not None
        try:
            position = await self._writer.append(rows, idempotency, events, generation)
        except (LogError, asyncio.CancelledError):
            # The events may or may not be recorded, so the next command reads the log.
            self._states.pop(state.id, None)
            raise
        self._remember(state)
        if before // SNAPSHOT_INTERVAL != state.version // SNAPSHOT_INTERVAL:
            self._start_snapshot(state)
        return Committed(state, events, position)

    def _remember(self, state: Conversation) -> None:
        self._states[state.id] = state
        self._states.move_to_end(state.id)
        if len(self._states) > CACHED_STATES:
            self._states.popitem(last=False)

    def _start_snapshot(self, state: Conversation) -> None:
        self._snapshots.once("snapshot", lambda: self._write_snapshot(state))

    async def _write_snapshot(self, state: Conversation) -> None:
        try:
            await self.log.write_snapshot(state)
        except StoreUnavailableError as error:
            _log.warning("no snapshot of %s was stored: %s", state.id, error)


async def _events(decide: Decision, state: Conversation) -> Events:
    decided = decide(state)
    return decided if isinstance(decided, list) else await decided
