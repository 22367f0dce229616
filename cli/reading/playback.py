"""Playback: the recorded events of a conversation as scenes, each at its time."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import to_json

from cli.terminal import Look
from domain.aggregates import AggregateEvent
from domain.content import (
    Content,
    ContentBlock,
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    plain_text,
)
from domain.events import (
    ConversationDeleted,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from eventlog.mapper import Recorded, UnknownEvent
from turns.frames.delta_buffer import FLUSH_INTERVAL_S

EXCERPT_CHARACTERS = 200

_NO_TIME = timedelta()
_STREAM_WINDOW = timedelta(seconds=FLUSH_INTERVAL_S)


class Piece(NamedTuple):
    """A part of the transcript.

    A `whole` piece is a line of its own, and an empty one ends the line. Others continue the text.
    """

    text: str
    look: Look = "plain"
    whole: bool = False


class Scene(NamedTuple):
    """The pieces that appeared at a time, with the position of their event.

    `idle` says that no turn ran before it.
    """

    position: int
    at: datetime
    idle: bool
    pieces: tuple[Piece, ...]


class _Said(NamedTuple):
    """A message that still counts: its version, and how it is shown when it goes."""

    version: int
    excerpt: str


_END_OF_LINE = Piece("", whole=True)


class Playback:
    """Folds the events of a conversation into scenes, in their order."""

    def __init__(self) -> None:
        self._before: datetime | None = None
        self._title: str | None = None
        self._said: dict[UUID, _Said] = {}
        self._turn_id: UUID | None = None
        self._runs = False
        self._block_index: int | None = None
        self._streamed: list[str] | None = None
        """The text that the model has streamed since its call, None before its first chunk."""
        self._show: Mapping[type[AggregateEvent], Callable[[Any], list[Piece]]] = {
            ConversationStarted: self._started,
            ConversationUpdated: self._updated,
            ConversationDeleted: self._deleted,
            MessageAdded: self._message_added,
            MessageDeleted: self._message_deleted,
            MessagesSuperseded: self._superseded,
            TurnQueued: self._turn_queued,
            TurnStarted: self._turn_started,
            TurnSuspended: self._turn_suspended,
            TurnResumed: self._turn_resumed,
            TurnCompleted: self._turn_completed,
            TurnFailed: self._turn_failed,
            TurnCancelled: self._turn_cancelled,
            UnknownEvent: _unknown,
        }

    def scenes(self, recorded: Recorded) -> list[Scene]:
        """Return the scenes of the next event. Each chunk of a model is one of its own."""
        event, idle = recorded.event, not self._runs
        before, self._before = self._before, event.timestamp
        if isinstance(event, StreamDelta):
            return self._chunks(recorded.position, event, before, idle=idle)
        return [Scene(recorded.position, event.timestamp, idle, tuple(self._show[type(event)](event)))]

    def _chunks(self, position: int, event: StreamDelta, before: datetime | None, *, idle: bool) -> list[Scene]:
        # Chunks are recorded together, with the time of their recording. They came within the interval before it.
        window = min(max(event.timestamp - (before or event.timestamp), _NO_TIME), _STREAM_WINDOW)
        begin = event.timestamp - window
        look: Look = "thought" if event.block_type == "reasoning" else "plain"
        opening = [] if event.block_index == self._block_index else [_END_OF_LINE]
        self._block_index = event.block_index
        self._streamed = self._streamed or []
        scenes: list[Scene] = []
        for number, text in enumerate(event.chunks, 1):
            if event.block_type == "text":
                self._streamed.append(text)
            pieces = (*opening, Piece(text, look))
            scenes.append(Scene(position, begin + window * number / len(event.chunks), idle, pieces))
            opening = []
        return scenes

    def _started(self, event: ConversationStarted) -> list[Piece]:
        self._title = event.title
        agent = f", agent {event.agent_id}" if event.agent_id else ""
        facts = f"{_clock(event)}  of {event.owner_id}{agent}, started by {event.actor}"
        return [_heading(f"Conversation {event.originator_id}"), _note(facts), *_titled(event.title)]

    def _updated(self, event: ConversationUpdated) -> list[Piece]:
        renamed, self._title = event.title != self._title, event.title
        if not renamed:
            return [_note(f"{_clock(event)}  {event.actor} changed the metadata")]
        return [_note(f"{_clock(event)}  {event.actor} changed the title"), *_titled(event.title)]

    def _deleted(self, event: ConversationDeleted) -> list[Piece]:
        return [Piece(f"{_clock(event)}  {event.actor} deleted the conversation", "failed", whole=True)]

    def _message_added(self, event: MessageAdded) -> list[Piece]:
        self._said[event.message_id] = _Said(event.originator_version, f"{event.role}: {_excerpt(event.content)}")
        if event.role == "assistant" and event.turn_id is not None and event.turn_id == self._turn_id:
            return self._rest_of_answer(event.content)
        author = event.author_id or event.model or event.actor
        return [_heading(f"{event.role}  {_clock(event)}  {author}"), *_content(event.content)]

    def _rest_of_answer(self, content: Content) -> list[Piece]:
        """Return the pieces of a turn's answer that its model has not streamed."""
        streamed, self._streamed, self._block_index = self._streamed, None, None
        if streamed is None:
            return _content(content)
        shown, recorded = "".join(streamed), "".join(block.text for block in content if isinstance(block, TextBlock))
        others = tuple(block for block in content if not isinstance(block, TextBlock | ReasoningBlock))
        if not recorded.startswith(shown):
            return [_note("recorded as:"), Piece(recorded), *_content(others)]
        rest = Piece(recorded.removeprefix(shown))
        return [*([] if shown else [_END_OF_LINE]), *([rest] if rest.text else []), *_content(others)]

    def _message_deleted(self, event: MessageDeleted) -> list[Piece]:
        gone = self._said.pop(event.message_id, None)
        return [_note(f"{_clock(event)}  {event.actor} deleted a message"), *_struck([gone] if gone else [])]

    def _superseded(self, event: MessagesSuperseded) -> list[Piece]:
        gone = [id_ for id_, said in self._said.items() if said.version >= event.from_version]
        excerpts = _struck([self._said.pop(id_) for id_ in gone])
        return [_note(f"{_clock(event)}  {event.actor} replaced {_count(event.count, 'message')}"), *excerpts]

    def _turn_queued(self, event: TurnQueued) -> list[Piece]:
        return [_heading(f"user, queued  {_clock(event)}  {event.actor}"), *_content(event.content)]

    def _turn_started(self, event: TurnStarted) -> list[Piece]:
        self._turn_id = event.turn_id
        return self._answer_begins(event)

    def _turn_resumed(self, event: TurnResumed) -> list[Piece]:
        return self._answer_begins(event)

    def _answer_begins(self, event: TurnStarted | TurnResumed) -> list[Piece]:
        self._runs, self._streamed, self._block_index = True, None, None
        return [_heading(f"assistant  {_clock(event)}  {event.model}")]

    def _turn_suspended(self, event: TurnSuspended) -> list[Piece]:
        self._runs = False
        return [_note("waits for tool results")]

    def _turn_completed(self, event: TurnCompleted) -> list[Piece]:
        used = f", {event.usage.input_tokens} + {event.usage.output_tokens} tokens" if event.usage else ""
        return [_note(f"completed ({event.finish_reason}){used}{self._ended(event)}")]

    def _turn_failed(self, event: TurnFailed) -> list[Piece]:
        text = f"failed ({event.reason}){self._ended(event)}: {event.detail}"
        return [_END_OF_LINE, Piece(text, "failed"), _END_OF_LINE]

    def _turn_cancelled(self, event: TurnCancelled) -> list[Piece]:
        if event.turn_id != self._turn_id:
            return [_note(f"{_clock(event)}  {event.actor} cancelled a queued turn")]
        return [_note(f"cancelled by {event.actor}{self._ended(event)}")]

    def _ended(self, event: TurnEnded) -> str:
        """Note the end of a turn, and return how long it ran, as text."""
        if event.turn_id == self._turn_id:
            self._runs, self._turn_id, self._streamed, self._block_index = False, None, None, None
        return "" if event.duration_ms is None else f", {event.duration_ms / 1000:.1f} s"


def _unknown(event: UnknownEvent) -> list[Piece]:
    return [_note(f"{_clock(event)}  an event that this release does not know ({event.stored_type})")]


def _clock(event: AggregateEvent) -> str:
    return f"{event.timestamp:%Y-%m-%d %H:%M:%S}Z"


def _heading(text: str) -> Piece:
    return Piece(text, "bold", whole=True)


def _note(text: str) -> Piece:
    return Piece(text, "quiet", whole=True)


def _titled(title: str | None) -> list[Piece]:
    return [_END_OF_LINE, Piece(title, "bold"), _END_OF_LINE] if title else [_note("without a title")]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _struck(gone: Sequence[_Said]) -> list[Piece]:
    return [Piece(said.excerpt, "struck", whole=True) for said in gone]


def _excerpt(content: Content) -> str:
    """Return the first line of a message, not too long."""
    lines = plain_text(content).strip()[:EXCERPT_CHARACTERS].splitlines()
    return lines[0] if lines else f"[{', '.join(block.type for block in content)}]"


def _content(content: Sequence[ContentBlock]) -> list[Piece]:
    """Return the pieces of the blocks of a message, each on new lines."""
    return [piece for block in content for piece in (_END_OF_LINE, _block(block), _END_OF_LINE)]


def _block(block: ContentBlock) -> Piece:
    if isinstance(block, TextBlock):
        return Piece(block.text)
    if isinstance(block, ReasoningBlock):
        return Piece(block.text, "thought")
    if isinstance(block, ImageBlock):
        return Piece(f"[image {block.url or block.media_type}]", "quiet")
    if isinstance(block, ContextBlock):
        return Piece(f"[context {_json(block.data)}]", "quiet")
    if isinstance(block, ToolUseBlock):
        return Piece(f"→ {block.name}({_json(block.input)})", "called")
    assert isinstance(block, ToolResultBlock)
    return Piece(f"← {block.content}", "failed" if block.is_error else "called")


def _json(value: Any) -> str:
    return to_json(value).decode()
