"""What a turn leaves in the log, and how it is read back; recording outlasts a store that is away for a while."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from domain import decisions
from domain.conversation import Conversation
from domain.decisions import Events, Origin
from domain.events import MessageAdded, StreamDelta, TurnEnded, TurnStarted
from eventlog.clock import now
from eventlog.conversations import Committed, Conversations
from eventlog.errors import StoreUnavailableError
from eventlog.log import Log
from eventlog.mapper import Recorded
from eventlog.writer import Idempotency
from turns.frames import Frame, TurnFrames

PATIENCE_S = 30.0
RETRY_INTERVAL_S = 0.2


class _DecideKnowing(Protocol):
    """A decision that is told which chunks of the turn are in the log already, by their first frame."""

    def __call__(self, state: Conversation, recorded: frozenset[int]) -> Events: ...


class TurnKey(NamedTuple):
    """Which turn: its conversation, its id, and the version of the user's message, where its events begin."""

    conversation_id: UUID
    turn_id: UUID
    first_version: int


class TurnReplay:
    """Folds the recorded events of one conversation, in order, into the frames of one turn."""

    def __init__(self, turn_id: UUID, first_version: int) -> None:
        self.ended: TurnEnded | None = None
        self.next_version = first_version
        self.position = 0
        self.started_at: datetime | None = None
        self.first_chunk_at: datetime | None = None
        self._turn_id = turn_id
        self._said: dict[str, MessageAdded] = {}
        self._frames: TurnFrames | None = None

    def take(self, recorded: list[Recorded]) -> list[Frame]:
        """Return the frames that these further events add; events of other matters add none."""
        self.position = recorded[-1].position if recorded else self.position
        return [frame for item in recorded for frame in self._take(item.event)]

    def _take(self, event: Any) -> list[Frame]:
        self.next_version = event.originator_version + 1
        if getattr(event, "turn_id", None) != self._turn_id:
            return []
        if isinstance(event, MessageAdded):
            self._said[event.role] = event
            return []
        if isinstance(event, TurnStarted):
            self._frames = TurnFrames(self._said["user"], event)
            self.started_at = event.timestamp
            return [self._frames.start()]
        assert self._frames is not None
        if isinstance(event, StreamDelta):
            self.first_chunk_at = self.first_chunk_at or event.timestamp
            return self._frames.delta(event)
        self.ended = event
        return self._frames.end(event, self._said.get("assistant"))

    @property
    def next_seq(self) -> int:
        """The number of the frame that comes next."""
        return self._frames.next_seq if self._frames else 1

    def content(self) -> Any:
        """Return what was said so far, as blocks."""
        return self._frames.content() if self._frames else ()


async def replay_turn(log: Log, key: TurnKey) -> tuple[TurnReplay, list[Frame]]:
    """Return a turn as far as the log has it, and its frames."""
    replay = TurnReplay(key.turn_id, key.first_version)
    return replay, replay.take(await log.events(key.conversation_id, replay.next_version))


class TurnRecorder:
    """Records the events of one running turn, on behalf of who asked for it."""

    def __init__(self, conversations: Conversations, key: TurnKey, origin: Origin) -> None:
        self._conversations = conversations
        self._key = key
        self._origin = origin

    async def deltas(self, deltas: list[dict[str, Any]]) -> None:
        """Record chunks.

        Raises:
            TurnNotActiveError: the turn was ended by someone else.
            StoreUnavailableError: the store stayed away for 30 s.
        """
        await self._patiently(lambda state, recorded: self._deltas(state, _unrecorded(deltas, recorded)))

    async def end(
        self,
        deltas: list[dict[str, Any]],
        decide: Callable[[Conversation, Origin], Events],
        idempotency: Idempotency | None = None,
    ) -> Committed:
        """Record the last chunks and the end of the turn in one commit.

        Raises:
            TurnNotActiveError: the turn was ended by someone else.
            StoreUnavailableError: the store stayed away for 30 s.
        """

        def events(state: Conversation, recorded: frozenset[int]) -> Events:
            last = self._deltas(state, _unrecorded(deltas, recorded))
            return [*last, *decide(state.at_version(state.version + len(last)), self._now())]

        return await self._patiently(events, idempotency)

    def _deltas(self, state: Conversation, deltas: list[dict[str, Any]]) -> Events:
        events: Events = []
        for fields in deltas:
            at = state.at_version(state.version + len(events))
            events += decisions.record_delta(at, self._now(), self._key.turn_id, **fields)
        return events

    def _now(self) -> Origin:
        return self._origin._replace(at=now())

    async def _patiently(self, decide: _DecideKnowing, idempotency: Idempotency | None = None) -> Committed:
        """Execute a decision; after each try whose outcome is unknown it is told which chunks did get recorded."""
        key, deadline = self._key, monotonic() + PATIENCE_S
        recorded: frozenset[int] = frozenset()
        while True:
            try:
                return await self._conversations.execute(
                    key.conversation_id, partial(decide, recorded=recorded), idempotency
                )
            except StoreUnavailableError:
                if monotonic() > deadline:
                    raise
            await asyncio.sleep(RETRY_INTERVAL_S)
            recorded = await self._recorded_seqs(recorded)

    async def _recorded_seqs(self, known: frozenset[int]) -> frozenset[int]:
        try:
            events = await self._conversations.log.events(self._key.conversation_id, self._key.first_version)
        except StoreUnavailableError:
            return known
        deltas = [item.event for item in events if isinstance(item.event, StreamDelta)]
        return frozenset(delta.first_seq for delta in deltas if delta.turn_id == self._key.turn_id)


def _unrecorded(deltas: list[dict[str, Any]], recorded: frozenset[int]) -> list[dict[str, Any]]:
    return [fields for fields in deltas if fields["first_seq"] not in recorded]
