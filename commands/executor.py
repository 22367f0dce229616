"""Commands on conversations: load the state, decide, append; many at once, in one order, and nobody has to retry."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from domain.conversation import Conversation, evolve
from domain.decisions.conversations import Events
from domain.errors import ConversationNotFoundError, DomainError, WriteConflictError
from eventlog.background import Background
from eventlog.errors import LogError, StoreUnavailableError, VersionTakenError
from eventlog.log import Log
from eventlog.mapper import SNAPSHOT_INTERVAL, new_row
from eventlog.retry import retry
from eventlog.writer import GroupCommitWriter, Idempotency

CONFLICT_PAUSES_S = tuple(0.001 * min(attempt, 20) for attempt in range(99))
"""The waits after conflicts with other processes. They grow, so that the others can finish."""
CACHED_STATES = 10_000

Decision = Callable[[Conversation], Events | Awaitable[Events]]
_log = logging.getLogger(__name__)


class Committed(NamedTuple):
    """What a command did: the state after it, its events, and the log position of the last (None without events)."""

    state: Conversation
    events: Events
    position: int | None


class CommandExecutor:
    """The command side of the log in this process.

    Commands on one conversation take turns; between processes the log decides, and who lost decides again on the
    newer state. States are cached and believed until a conflict, a refusal or an idle decision makes them look again.
    """

    def __init__(
        self, log: Log, writer: GroupCommitWriter, conflict_pauses_s: Sequence[float] = CONFLICT_PAUSES_S
    ) -> None:
        self.log = log
        self._conflict_pauses_s = conflict_pauses_s
        self._writer = writer
        self._states: OrderedDict[UUID, Conversation] = OrderedDict()
        self._locks = _Locks()
        self._snapshots = Background()
        writer.on_reconnect(self.forget)

    async def start(self, events: Events, idempotency: Idempotency | None = None) -> Committed:
        """Record the first events of a conversation.

        Raises:
            IdempotencyKeyTakenError: the key was recorded meanwhile.
            StoreUnavailableError: the log does not answer.
        """
        return await self._record(None, events, idempotency, None)

    async def execute(
        self, conversation_id: UUID, decide: Decision, idempotency: Idempotency | None = None
    ) -> Committed:
        """Record what `decide` makes of the conversation's state; no events record nothing.

        Raises:
            ConversationNotFoundError: there is no such conversation.
            DomainError: whatever `decide` refuses on the newest state.
            WriteConflictError: other processes won a hundred times in a row.
            IdempotencyKeyTakenError: the key was recorded meanwhile.
            StoreUnavailableError: the log does not answer.
        """

        async def attempt() -> Committed:
            generation = self._writer.generation
            state, events = await self._decide(conversation_id, decide)
            if not events:
                return Committed(state, events, None)
            return await self._record(state, events, idempotency, generation)

        async with self._locks.hold(conversation_id):
            try:
                return await retry(attempt, VersionTakenError, self._conflict_pauses_s)
            except VersionTakenError:
                raise WriteConflictError(conversation_id) from None

    async def state(self, conversation_id: UUID) -> Conversation:
        """Return the newest state of a conversation.

        Raises:
            ConversationNotFoundError: there is no such conversation.
            StoreUnavailableError: the log does not answer.
        """
        return await self._load(conversation_id, self._states.get(conversation_id), self._writer.generation)

    async def close(self) -> None:
        """Wait for the snapshots that are being written."""
        await self._snapshots.finish()

    def forget(self) -> None:
        """Forget all states: the log may have lost its end."""
        self._states.clear()

    async def _decide(self, conversation_id: UUID, decide: Decision) -> tuple[Conversation, Events]:
        cached, generation = self._states.get(conversation_id), self._writer.generation
        if cached is None:
            state = await self._load(conversation_id, None, generation)
            return state, await _events(decide, state)
        # What changes nothing, a refusal or no events, must rest on the newest state: no append will correct it.
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
        """Return the newest state, made of the one that is `known` unless that is of an older generation."""
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
            # Whether this was recorded is not known here, so the log has to be asked again.
            self._states.pop(state.id, None)
            raise
        self._remember(state)
        if before // SNAPSHOT_INTERVAL != state.version // SNAPSHOT_INTERVAL:
            self._keep_snapshot(state)
        return Committed(state, events, position)

    def _remember(self, state: Conversation) -> None:
        self._states[state.id] = state
        self._states.move_to_end(state.id)
        if len(self._states) > CACHED_STATES:
            self._states.popitem(last=False)

    def _keep_snapshot(self, state: Conversation) -> None:
        self._snapshots.once("snapshot", lambda: self._write_snapshot(state))

    async def _write_snapshot(self, state: Conversation) -> None:
        try:
            await self.log.write_snapshot(state)
        except StoreUnavailableError as error:
            _log.warning("no snapshot of %s: %s", state.id, error)


class _Locks:
    """A lock for each conversation in use; the last to leave takes it away."""

    def __init__(self) -> None:
        self._held: dict[UUID, _Lock] = {}

    def hold(self, conversation_id: UUID) -> "_Lock":
        """Return the lock of a conversation, to be entered at once."""
        lock = self._held.get(conversation_id)
        if lock is None:
            lock = self._held[conversation_id] = _Lock(self._held, conversation_id)
        lock.users += 1
        return lock


class _Lock:
    """A conversation's lock, and how many hold it or wait for it; a class, as it is entered for every command."""

    __slots__ = ("_held", "_id", "_lock", "users")

    def __init__(self, held: "dict[UUID, _Lock]", conversation_id: UUID) -> None:
        self._held = held
        self._id = conversation_id
        self._lock = asyncio.Lock()
        self.users = 0

    async def __aenter__(self) -> None:
        try:
            await self._lock.acquire()
        except asyncio.CancelledError:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self.users -= 1
        if not self.users:
            del self._held[self._id]


async def _events(decide: Decision, state: Conversation) -> Events:
    decided = decide(state)
    return decided if isinstance(decided, list) else await decided
