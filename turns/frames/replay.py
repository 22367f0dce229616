"""Reading a turn back from the log as frames."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from commands.commands import count_tokens
from commands.tokens import Tokenizer
from domain.content import Content
from domain.decisions.running_turns import ModelAnswer
from domain.events import (
    MessageAdded,
    StreamDelta,
    TurnBegun,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from eventlog.image_store import ImageStore
from eventlog.log import LAST_VERSION, Log
from eventlog.mapper import Recorded, UnknownEvent
from turns.frames.frames import Frame, TurnFrames

_FRAMED_EVENTS = (MessageAdded, StreamDelta, TurnBegun, TurnSuspended, TurnResumed, TurnEnded)


class TurnKey(NamedTuple):
    """A turn: its conversation, its id, and the version from which it is read.

    `begun_version` is that of its TurnQueued or of its TurnStarted. A turn that was queued has both.
    """

    conversation_id: UUID
    turn_id: UUID
    begun_version: int


class TurnReplay:
    """Folds the recorded events of a conversation into the frames of one turn.

    `waits` says that the turn waits for tool results. `answer` is the newest message of its model. `user_message` is
    the message that it answers, None until that is read.
    """

    def __init__(self, key: TurnKey, user_message: MessageAdded | None = None) -> None:
        """Begin before the first event.

        A turn that does not begin with its user's message needs it given.
        """
        self.started: TurnStarted | None = None
        self.ended: TurnEnded | None = None
        self.waits = False
        self.frames: TurnFrames | None = None
        self.next_version = key.begun_version
        self.position = 0
        self.first_chunk_at: datetime | None = None
        self._turn_id = key.turn_id
        self.user_message = user_message
        self.answer: MessageAdded | None = None

    def take(self, recorded: list[Recorded]) -> list[Frame]:
        """Return the frames that further events add. Those of other turns add none."""
        self.position = recorded[-1].position if recorded else self.position
        return [frame for item in recorded for frame in self._take(item.event)]

    @property
    def next_seq(self) -> int:
        """The number of the frame that comes next."""
        return self.frames.next_seq if self.frames else 1

    def content(self) -> Content:
        """Return what the model has sent so far, since tool results if there were any."""
        return self.frames.content() if self.frames else ()

    def _take(self, event: Any) -> list[Frame]:
        self.next_version = event.originator_version + 1
        if isinstance(event, UnknownEvent):
            self._check_skippable(event)
            return []
        if getattr(event, "turn_id", None) != self._turn_id:
            return []
        if isinstance(event, MessageAdded):
            self._keep_message(event)
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

    def _check_skippable(self, event: UnknownEvent) -> None:
        """Check that an unknown event makes no frames of this turn.

        Raises:
            UnknownEventError: it may make some.
        """
        if not self.ended and event.known_type is not None and issubclass(event.known_type, _FRAMED_EVENTS):
            raise event.error()

    def _begin(self, event: TurnBegun) -> list[Frame]:
        self.frames = self.frames or TurnFrames(event)
        if not isinstance(event, TurnStarted):
            return []
        assert self.user_message is not None
        self.started = event
        return [self.frames.start(event, self.user_message)]

    def _keep_message(self, event: MessageAdded) -> None:
        if event.role == "user":
            self.user_message = event
        elif event.role == "assistant":
            self.answer = event


class TurnReader:
    """Reads turns back from the log.

    Every method may raise StoreUnavailableError, and another LogError where an event or an image cannot be read.
    """

    def __init__(self, log: Log, tokenizer: Tokenizer, images: ImageStore) -> None:
        self._log = log
        self._tokenizer = tokenizer
        self._images = images

    async def begin(self, key: TurnKey, user_message: MessageAdded | None = None) -> TurnReplay:
        """Return the replay of a turn before its first event.

        The message that it answers is read unless it is given.
        """
        question = user_message or await self._question(key)
        return TurnReplay(key, await self._images.restored_event(question) if question else None)

    async def take(self, key: TurnKey, replay: TurnReplay, events: list[Recorded]) -> list[Frame]:
        """Return the frames that further events add, with the user's images."""
        return replay.take([await self._restored(key, item) for item in events])

    async def read(
        self, key: TurnKey, replay: TurnReplay, *, last: int = LAST_VERSION, limit: int = LAST_VERSION
    ) -> tuple[list[Frame], bool]:
        """Return the frames of further events up to `last`, and whether more may follow.

        At most `limit` events are read.
        """
        events = await self._log.events(key.conversation_id, replay.next_version, last, limit)
        return await self.take(key, replay, events), len(events) == limit

    async def whole(self, key: TurnKey) -> tuple[TurnReplay, list[Frame]]:
        """Return a turn as far as the log has it, and its frames."""
        replay = await self.begin(key)
        frames, _ = await self.read(key, replay)
        return replay, frames

    async def settled_after(self, key: TurnKey, version: int) -> TurnReplay:
        """Return a turn as it first ended, or waited for tool results, after a version."""
        replay = await self.begin(key)
        for item in await self._log.events(key.conversation_id, replay.next_version):
            await self.take(key, replay, [item])
            if item.event.originator_version > version and (replay.waits or replay.ended):
                break
        return replay

    async def answer_so_far(self, key: TurnKey) -> ModelAnswer:
        """Return what the log has of the answer that a turn's model is giving."""
        # No frame is shown, so images need not be read.
        replay = TurnReplay(key, await self._question(key))
        replay.take(await self._log.events(key.conversation_id, replay.next_version))
        content = replay.content()
        return ModelAnswer(content, await count_tokens(self._tokenizer, content), self._tokenizer.name)

    async def _question(self, key: TurnKey) -> MessageAdded | None:
        """Return the message that a turn answers, None for a turn that was queued."""
        first = await self._log.versions(key.conversation_id, [key.begun_version])
        if not first or not isinstance(first[0].event, TurnStarted):
            return None
        messages = await self._log.versions(key.conversation_id, [first[0].event.user_message_version])
        assert isinstance(messages[0].event, MessageAdded)
        return messages[0].event

    async def _restored(self, key: TurnKey, item: Recorded) -> Recorded:
        event = item.event
        if isinstance(event, MessageAdded) and event.role == "user" and event.turn_id == key.turn_id:
            return item._replace(event=await self._images.restored_event(event))
        return item
