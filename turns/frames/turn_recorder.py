"""Recording a running turn in the log, also while the store is away for a while."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from commands.executor import CommandExecutor, Committed
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.events import StreamDelta
from eventlog.clock import now
from eventlog.errors import StoreUnavailableError
from eventlog.retry import equal_pauses, retry
from eventlog.writer import Idempotency
from turns.frames.replay import TurnKey

RETRY_FOR_S = 30.0
RETRY_INTERVAL_S = 0.2


class _DecideUnrecorded(Protocol):
    """A decision that leaves out chunks that are recorded already.

    `recorded` holds the `first_seq` of each StreamDelta that an earlier attempt recorded.
    """

    def __call__(self, state: Conversation, recorded: frozenset[int]) -> Events: ...


class TurnRecorder:
    """Records the events of one running turn on behalf of `origin`.

    After an attempt of unknown outcome, recorded chunks are looked up from `from_version` on.
    """

    def __init__(self, executor: CommandExecutor, key: TurnKey, from_version: int, origin: Origin) -> None:
        self._executor = executor
        self._key = key
        self._from_version = from_version
        self._origin = origin

    async def deltas(self, deltas: list[dict[str, Any]]) -> None:
        """Record chunks.

        Raises:
            TurnNotActiveError: the turn was ended by another command.
            StoreUnavailableError: the store stayed away for 30 s.
        """
        await self._execute(lambda state, recorded: self._delta_events(state, _unrecorded(deltas, recorded)))

    async def end(
        self,
        deltas: list[dict[str, Any]],
        decide: Callable[[Conversation, Origin], Events],
        idempotency: Idempotency | None = None,
    ) -> Committed:
        """Record the last chunks and the end of the turn in one commit.

        Raises:
            TurnNotActiveError: the turn was ended by another command.
            StoreUnavailableError: the store stayed away for 30 s.
        """

        def events(state: Conversation, recorded: frozenset[int]) -> Events:
            last = self._delta_events(state, _unrecorded(deltas, recorded))
            return [*last, *decide(state.at_version(state.version + len(last)), self._origin_now())]

        return await self._execute(events, idempotency)

    def _delta_events(self, state: Conversation, deltas: list[dict[str, Any]]) -> Events:
        events: Events = []
        for fields in deltas:
            at = state.at_version(state.version + len(events))
            events += running_turns.record_delta(at, self._origin_now(), self._key.turn_id, **fields)
        return events

    def _origin_now(self) -> Origin:
        return self._origin._replace(at=now())

    async def _execute(self, decide: _DecideUnrecorded, idempotency: Idempotency | None = None) -> Committed:
        """Execute a decision, again and again while the store is away."""
        recorded: frozenset[int] | None = None

        async def attempt() -> Committed:
            nonlocal recorded
            # An attempt that failed may have recorded its chunks all the same.
            recorded = frozenset() if recorded is None else await self._recorded_seqs(recorded)
            decision = partial(decide, recorded=recorded)
            return await self._executor.execute(self._key.conversation_id, decision, idempotency)

        return await retry(attempt, StoreUnavailableError, equal_pauses(RETRY_INTERVAL_S, RETRY_FOR_S))

    async def _recorded_seqs(self, known: frozenset[int]) -> frozenset[int]:
        try:
            events = await self._executor.log.events(self._key.conversation_id, self._from_version)
        except StoreUnavailableError:
            return known
        deltas = [item.event for item in events if isinstance(item.event, StreamDelta)]
        return frozenset(delta.first_seq for delta in deltas if delta.turn_id == self._key.turn_id)


def _unrecorded(deltas: list[dict[str, Any]], recorded: frozenset[int]) -> list[dict[str, Any]]:
    return [fields for fields in deltas if fields["first_seq"] not in recorded]
