"""What a turn leaves in the log, and how it is read back; recording outlasts a store that is away for a while."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from commands.commands import count_tokens
from commands.executor import Committed, Conversations
from commands.tokens import Tokenizer
from domain.content import Content
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.decisions.running_turns import Answer
from domain.events import (
    MessageAdded,
    StreamDelta,
    TurnBegun,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from eventlog.clock import now
from eventlog.errors import StoreUnavailableError
from eventlog.images import Images
from eventlog.log import LAST_VERSION, Log
from eventlog.mapper import Recorded, UnknownEvent
from eventlog.writer import Idempotency
from turns.frames.frames import Frame, TurnFrames

PATIENCE_S = 30.0
RETRY_INTERVAL_S = 0.2

_OF_TURNS = (MessageAdded, StreamDelta, TurnBegun, TurnSuspended, TurnResumed, TurnEnded)


class _DecideKnowing(Protocol):
    """A decision that is told which chunks of the turn are in the log already, by their first frame."""

    def __call__(self, state: Conversation, recorded: frozenset[int]) -> Events: ...


class TurnKey(NamedTuple):
    """Which turn: its conversation, its id, and the version of its first event or of its start."""

    conversation_id: UUID
    turn_id: UUID
    first_version: int


class TurnReplay:
    """Folds the recorded events of one conversation, in order, into the frames of one turn.

    `waits` says that the turn waits for tool results; `answer` is the message in which its model spoke last, and
    `user_message` what it answers, None as long as that is not said.
    """

    def __init__(self, key: TurnKey, user_message: MessageAdded | None = None) -> None:
        """A turn that does not begin with its user's message needs it given."""
        self.started: TurnStarted | None = None
        self.ended: TurnEnded | None = None
        self.waits = False
        self.frames: TurnFrames | None = None
        self.next_version = key.first_version
        self.position = 0
        self.first_chunk_at: datetime | None = None
        self._turn_id = key.turn_id
        self.user_message = user_message
        self.answer: MessageAdded | None = None

    def take(self, recorded: list[Recorded]) -> list[Frame]:
        """Return the frames that these further events add; events of other matters add none."""
        self.position = recorded[-1].position if recorded else self.position
        return [frame for item in recorded for frame in self._take(item.event)]

    @property
    def next_seq(self) -> int:
        """The number of the frame that comes next."""
        return self.frames.next_seq if self.frames else 1

    def content(self) -> Content:
        """Return what was said so far, since tool results if there were any."""
        return self.frames.content() if self.frames else ()

    def _take(self, event: Any) -> list[Frame]:
        self.next_version = event.originator_version + 1
        if isinstance(event, UnknownEvent):
            self._pass(event)
            return []
        if getattr(event, "turn_id", None) != self._turn_id:
            return []
        if isinstance(event, MessageAdded):
            self._note_message(event)
            return []
        if isinstance(event, TurnBegun):
            return self._begin(event)
        assert self.frames is not None
        if isinstance(event, StreamDelta):
            self.first_chunk_at = self.first_chunk_at or event.timestamp
            return self.frames.delta(event)
        if isinstance(event, TurnSuspended):
            assert self.answer is not None
            self.waits = True
            return self.frames.suspend(event, self.answer)
        self.waits = False
        if isinstance(event, TurnResumed):
            self.frames.resume(event)
            return []
        self.ended = event
        return self.frames.end(event, self.answer)

    def _pass(self, event: UnknownEvent) -> None:
        """Pass an unknown event by, unless it may be one that makes frames of this turn.

        Raises:
            UnknownEventError: it may be.
        """
        if not self.ended and event.known_type is not None and issubclass(event.known_type, _OF_TURNS):
            raise event.error()

    def _begin(self, event: TurnBegun) -> list[Frame]:
        self.frames = self.frames or TurnFrames(event)
        if not isinstance(event, TurnStarted):
            return []
        assert self.user_message is not None
        self.started = event
        return [self.frames.start(event, self.user_message)]

    def _note_message(self, event: MessageAdded) -> None:
        if event.role == "user":
            self.user_message = event
        elif event.role == "assistant":
            self.answer = event


class TurnReader:
    """Reads turns back from the log. Every method may raise StoreUnavailableError, and another LogError where an event
    or an image cannot be read.
    """

    def __init__(self, log: Log, tokenizer: Tokenizer, images: Images) -> None:
        self._log = log
        self._tokenizer = tokenizer
        self._images = images

    async def begin(self, key: TurnKey, user_message: MessageAdded | None = None) -> TurnReplay:
        """Return the replay of a turn, before its first event; the message it answers is read if it is not given."""
        asked = user_message or await self._question(key)
        return TurnReplay(key, await self._images.restored_event(asked) if asked else None)

    async def take(self, key: TurnKey, replay: TurnReplay, events: list[Recorded]) -> list[Frame]:
        """Return the frames that these further events add, with the images of what the user said."""
        return replay.take([await self._restored(key, item) for item in events])

    async def read(
        self, key: TurnKey, replay: TurnReplay, *, last: int = LAST_VERSION, limit: int = LAST_VERSION
    ) -> tuple[list[Frame], bool]:
        """Return the frames of at most `limit` further events up to version `last`, and whether there were so many."""
        events = await self._log.events(key.conversation_id, replay.next_version, last, limit)
        return await self.take(key, replay, events), len(events) == limit

    async def whole(self, key: TurnKey) -> tuple[TurnReplay, list[Frame]]:
        """Return a turn as far as the log has it, and its frames."""
        replay = await self.begin(key)
        frames, _ = await self.read(key, replay)
        return replay, frames

    async def _question(self, key: TurnKey) -> MessageAdded | None:
        """Return the message that a turn answers, unless it is still to come because the turn was queued."""
        first = await self._log.versions(key.conversation_id, [key.first_version])
        if not first or not isinstance(first[0].event, TurnStarted):
            return None
        said = await self._log.versions(key.conversation_id, [first[0].event.user_message_version])
        assert isinstance(said[0].event, MessageAdded)
        return said[0].event

    async def _restored(self, key: TurnKey, item: Recorded) -> Recorded:
        event = item.event
        if isinstance(event, MessageAdded) and event.role == "user" and event.turn_id == key.turn_id:
            return item._replace(event=await self._images.restored_event(event))
        return item

    async def settled_after(self, key: TurnKey, after_version: int) -> TurnReplay:
        """Return a turn as it was when it first ended, or waited for tool results, after an event."""
        replay = await self.begin(key)
        for item in await self._log.events(key.conversation_id, replay.next_version):
            await self.take(key, replay, [item])
            if item.event.originator_version > after_version and (replay.waits or replay.ended):
                break
        return replay

    async def answer_so_far(self, key: TurnKey) -> Answer:
        """Return what the log has of the answer that a turn's model is giving; no image is needed for that."""
        replay = TurnReplay(key, await self._question(key))
        replay.take(await self._log.events(key.conversation_id, replay.next_version))
        content = replay.content()
        return Answer(content, await count_tokens(self._tokenizer, content), self._tokenizer.name)


class TurnRecorder:
    """Records the events of one running turn, on behalf of who asked for it; `first_version` is where to look again."""

    def __init__(self, conversations: Conversations, key: TurnKey, first_version: int, origin: Origin) -> None:
        self._conversations = conversations
        self._key = key
        self._first_version = first_version
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
            events += running_turns.record_delta(at, self._now(), self._key.turn_id, **fields)
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
            events = await self._conversations.log.events(self._key.conversation_id, self._first_version)
        except StoreUnavailableError:
            return known
        deltas = [item.event for item in events if isinstance(item.event, StreamDelta)]
        return frozenset(delta.first_seq for delta in deltas if delta.turn_id == self._key.turn_id)


def _unrecorded(deltas: list[dict[str, Any]], recorded: frozenset[int]) -> list[dict[str, Any]]:
    return [fields for fields in deltas if fields["first_seq"] not in recorded]
