"""The frames of a turn: a pure fold, so that a turn gives the same frames live, from the log, and years later."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from domain.content import Content, ReasoningBlock, TextBlock
from domain.events import MessageAdded, StreamDelta, StreamedBlock, TurnCancelled, TurnCompleted, TurnEnded, TurnStarted
from projections.history import message_row, turn_row
from projections.resources import message_resource, turn_resource

TERMINAL_EVENTS = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})


@dataclass(frozen=True)
class Frame:
    """One server-sent event of a turn; `seq` counts from 1 without a gap."""

    seq: int
    event: str
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether the turn has ended with this frame."""
        return self.event in TERMINAL_EVENTS

    @cached_property
    def encoded(self) -> bytes:
        """The frame as it goes over the wire, made once for all its readers."""
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.seq, self.event.encode(), orjson.dumps(self.data))


class Chunk(NamedTuple):
    """A chunk of the model and its place: frame, block, and place in the block."""

    seq: int
    block_index: int
    block_type: StreamedBlock
    delta_index: int
    text: str


class TurnFrames:
    """Folds what happens in one turn into its frames; keeps the whole answer on the way."""

    def __init__(self, user_message: MessageAdded, started: TurnStarted) -> None:
        self._started = started
        self._user_message = user_message
        self._seq = 0
        self._blocks: list[tuple[StreamedBlock, list[str]]] = []
        self._open = False

    @property
    def next_seq(self) -> int:
        """The number of the frame that comes next."""
        return self._seq + 1

    def start(self) -> Frame:
        """Return the first frame."""
        user_message = message_resource(message_row(self._user_message))
        message_id, model = self._started.message_id, self._started.model
        return self._frame("turn.started", user_message=user_message, message_id=message_id, model=model)

    def chunk(self, block_type: StreamedBlock, text: str) -> tuple[Chunk, list[Frame]]:
        """Return the place of a chunk and its frames: its own, after the end of another block if it begins one."""
        frames: list[Frame] = []
        if not self._open or self._blocks[-1][0] != block_type:
            frames = self._close()
            self._blocks.append((block_type, []))
            self._open = True
        index = len(self._blocks) - 1
        texts = self._blocks[index][1]
        chunk = Chunk(self._seq + 1, index, block_type, len(texts), text)
        texts.append(text)
        frame = self._frame("delta", block_index=index, delta_index=chunk.delta_index, block_type=block_type, text=text)
        return chunk, [*frames, frame]

    def delta(self, event: StreamDelta) -> list[Frame]:
        """Return the frames of recorded chunks."""
        return [frame for text in event.chunks for frame in self.chunk(event.block_type, text)[1]]

    def end(self, ended: TurnEnded, message: MessageAdded | None) -> list[Frame]:
        """Return the last frames; `message` is what was said, None if nothing was."""
        turn = turn_resource(turn_row(self._started, ended))
        said = message_resource(message_row(message)) if message else None
        if isinstance(ended, TurnCompleted):
            return [*self._close(), self._frame("turn.completed", turn=turn, message=said)]
        name = "turn.cancelled" if isinstance(ended, TurnCancelled) else "turn.failed"
        return [*self._close(), self._frame(name, turn=turn, message=said, error=turn["error"])]

    def content(self) -> Content:
        """Return what was said so far."""
        return tuple(_block(block_type, texts) for block_type, texts in self._blocks)

    def _close(self) -> list[Frame]:
        if not self._open:
            return []
        self._open = False
        block = _block(*self._blocks[-1]).model_dump(mode="json")
        return [self._frame("block.done", block_index=len(self._blocks) - 1, block=block)]

    def _frame(self, event: str, **data: Any) -> Frame:
        self._seq += 1
        identity = {"conversation_id": self._started.originator_id, "turn_id": self._started.turn_id}
        return Frame(self._seq, event, {**identity, "seq": self._seq, **data})


def _block(block_type: StreamedBlock, texts: list[str]) -> TextBlock | ReasoningBlock:
    text = "".join(texts)
    return ReasoningBlock(text=text) if block_type == "reasoning" else TextBlock(text=text)
