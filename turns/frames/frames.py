"""The frames of a turn: a pure fold, so that they are the same live and replayed."""

from typing import Any, NamedTuple

import orjson
from pydantic_core import from_json

from domain.content import Content, ReasoningBlock, TextBlock
from domain.events import (
    MessageAdded,
    StreamDelta,
    StreamedBlock,
    TurnBegun,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.tools import tool_uses
from projections.models.history_rows import message_row, turn_change, turn_row
from projections.models.json_resources import message_resource, turn_resource
from projections.projection import json_text

TERMINAL_EVENTS = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})


class Frame(NamedTuple):
    """One frame of a turn, with its data as JSON. `seq` counts from 1 without a gap."""

    # Plain values only: a running turn keeps all its frames, and the garbage collector looks at each.

    seq: int
    event: str
    data_json: bytes

    @property
    def data(self) -> dict[str, Any]:
        """The data, decoded."""
        return from_json(self.data_json)

    @property
    def terminal(self) -> bool:
        """Whether the turn has ended with this frame."""
        return self.event in TERMINAL_EVENTS

    @property
    def pauses(self) -> bool:
        """Whether the turn waits for tool results after this frame."""
        return self.event == "turn.requires_action"


class Chunk(NamedTuple):
    """A chunk of the model, and its place: frame, block, and index in the block."""

    seq: int
    block_index: int
    block_type: StreamedBlock
    delta_index: int
    text: str


class TurnFrames:
    """Folds the events and chunks of a turn into frames, and keeps the model's text."""

    def __init__(self, begun: TurnBegun) -> None:
        self.row = turn_row(begun)
        self._seq = 0
        self._blocks_before = 0
        self._blocks: list[tuple[StreamedBlock, list[str]]] = []
        self._open = False

    @property
    def next_seq(self) -> int:
        """The number of the frame that comes next."""
        return self._seq + 1

    def start(self, started: TurnStarted, user_message: MessageAdded) -> Frame:
        """Return the first frame of a turn that has started."""
        self.row = turn_row(started, self.row)
        message = message_resource(message_row(user_message))
        return self._frame("turn.started", user_message=message, message_id=started.message_id, model=started.model)

    def chunk(self, block_type: StreamedBlock, text: str) -> tuple[Chunk, list[Frame]]:
        """Return the place of a chunk, and its frames.

        A chunk that begins a block has the frame that ends the block before, too.
        """
        frames: list[Frame] = []
        if not self._open or self._blocks[-1][0] != block_type:
            frames = self._close()
            self._blocks.append((block_type, []))
            self._open = True
        index = self._index()
        texts = self._blocks[-1][1]
        chunk = Chunk(self._seq + 1, index, block_type, len(texts), text)
        texts.append(text)
        frame = self._frame("delta", block_index=index, delta_index=chunk.delta_index, block_type=block_type, text=text)
        return chunk, [*frames, frame]

    def delta(self, event: StreamDelta) -> list[Frame]:
        """Return the frames of recorded chunks."""
        return [frame for text in event.chunks for frame in self.chunk(event.block_type, text)[1]]

    def suspend(self, suspended: TurnSuspended, message: MessageAdded) -> list[Frame]:
        """Return the frames of the tool calls and of the wait for their results."""
        frames = self._close()
        calls = [orjson.Fragment(json_text(call)) for call in tool_uses(message.content)]
        for call in calls:
            frames.append(self._frame("tool_use", block_index=self._blocks_before + len(self._blocks), tool_use=call))
            self._blocks_before += 1
        self._blocks_before += len(self._blocks)
        self._blocks = []
        self.row = self.row._replace(**turn_change(suspended))
        return [*frames, self._frame("turn.requires_action", tool_uses=calls)]

    def resume(self, resumed: TurnResumed) -> None:
        """Note that the turn goes on. It has no frame of its own."""
        self.row = self.row._replace(**turn_change(resumed))

    def end(self, ended: TurnEnded, message: MessageAdded | None) -> list[Frame]:
        """Return the last frames. `message` is the model's last message, if any."""
        self.row = self.row._replace(**turn_change(ended))
        turn = turn_resource(self.row)
        answer = message_resource(message_row(message)) if message else None
        if isinstance(ended, TurnCompleted):
            return [*self._close(), self._frame("turn.completed", turn=turn, message=answer)]
        name = "turn.cancelled" if isinstance(ended, TurnCancelled) else "turn.failed"
        return [*self._close(), self._frame(name, turn=turn, message=answer, error=turn["error"])]

    def content(self) -> Content:
        """Return the content of the model so far, since tool results if there were any."""
        return tuple(_block(block_type, texts) for block_type, texts in self._blocks)

    def _index(self) -> int:
        """Return the index of the newest block in the turn, from 0."""
        return self._blocks_before + len(self._blocks) - 1

    def _close(self) -> list[Frame]:
        if not self._open:
            return []
        self._open = False
        block = _block(*self._blocks[-1]).model_dump(mode="json")
        return [self._frame("block.done", block_index=self._index(), block=block)]

    def _frame(self, event: str, **data: Any) -> Frame:
        self._seq += 1
        identity = {"conversation_id": self.row.conversation_id, "turn_id": self.row.id}
        encoded = orjson.dumps({**identity, "seq": self._seq, **data})
        # A result of orjson keeps a buffer of up to twice its size. A turn keeps all its frames, so they are copied.
        return Frame(self._seq, event, bytes(memoryview(encoded)))


def _block(block_type: StreamedBlock, texts: list[str]) -> TextBlock | ReasoningBlock:
    text = "".join(texts)
    return ReasoningBlock(text=text) if block_type == "reasoning" else TextBlock(text=text)
