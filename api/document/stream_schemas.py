"""The events of `text/event-stream` answers, for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from api.document.headers import Schema
from api.document.stream_examples import FRAME_EXAMPLES, RECORDED_EXAMPLE
from api.http.openapi import MessageResource, RecordedEvent, TurnError, TurnResource
from domain.content import ReasoningBlock, TextBlock, ToolUseBlock
from domain.events import StreamedBlock

REFERENCE = "#/components/schemas/{model}"

TURN_STREAM = "TurnStreamEvent"
FEED = "FeedEvent"
CONVERSATION_FEED = "ConversationFeedEvent"
"""The component that describes one event of each kind of stream."""


class TurnFrame(BaseModel):
    """The members that the data of each frame of a turn has."""

    conversation_id: UUID
    turn_id: UUID
    seq: int = Field(ge=1, description="The number of the frame in the turn, from 1 without gaps.")


class TurnStartedFrame(TurnFrame):
    """The turn has started."""

    user_message: MessageResource
    message_id: UUID = Field(description="The id that the answer will have.")
    model: str


class DeltaFrame(TurnFrame):
    """A chunk of the model."""

    block_index: int = Field(description="Index of the block in the turn, from 0.")
    delta_index: int = Field(description="Index of the chunk in its block, from 0.")
    block_type: StreamedBlock
    text: str


class BlockDoneFrame(TurnFrame):
    """A block is complete."""

    block_index: int
    block: TextBlock | ReasoningBlock = Field(discriminator="type")


class ToolUseFrame(TurnFrame):
    """The model calls a tool."""

    block_index: int
    tool_use: ToolUseBlock


class RequiresActionFrame(TurnFrame):
    """The turn waits for the results of these calls."""

    tool_uses: list[ToolUseBlock]


class TurnCompletedFrame(TurnFrame):
    """The turn is completed. `message` is the answer, and authoritative."""

    turn: TurnResource
    message: MessageResource | None


class TurnStoppedFrame(TurnFrame):
    """The turn failed or was cancelled.

    `message` is the text so far, and `error` null if it was cancelled.
    """

    turn: TurnResource
    message: MessageResource | None
    error: TurnError | None


FRAMES: Mapping[str, type[TurnFrame]] = {
    "turn.started": TurnStartedFrame,
    "delta": DeltaFrame,
    "block.done": BlockDoneFrame,
    "tool_use": ToolUseFrame,
    "turn.requires_action": RequiresActionFrame,
    "turn.completed": TurnCompletedFrame,
    "turn.failed": TurnStoppedFrame,
    "turn.cancelled": TurnStoppedFrame,
}
"""The data of each frame of a turn, by its event."""


def stream_components() -> dict[str, Schema]:
    """Return the schemas of events and of their data as components of the document."""
    models = dict.fromkeys([*FRAMES.values(), RecordedEvent])
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    frames = [
        _event(model, {"type": "string", "const": name}, name, FRAME_EXAMPLES[name]) for name, model in FRAMES.items()
    ]
    of_recorded: Schema = {"type": "string", "description": "The type of the recorded event."}
    recorded = _event(RecordedEvent, of_recorded, RECORDED_EXAMPLE["type"], RECORDED_EXAMPLE)
    numbered = [_with_id(frame, "seq", "The frame's `seq`.") for frame in frames]
    placed = _with_id(recorded, "position", "The event's position in the log.")
    events: dict[str, Schema] = {
        TURN_STREAM: {"description": "A frame of a turn.", "oneOf": numbered},
        FEED: {"description": "A recorded event.", **placed},
        CONVERSATION_FEED: {
            "description": "A recorded event, or without an id a frame of the running turn.",
            "anyOf": [placed, *frames],
        },
    }
    return {**found["$defs"], **events}


def stream_content(component: str) -> Schema:
    """Return the content of an answer that is a stream of such events."""
    # OpenAPI 3.1 has no word for the items of a stream, so the schema is that of one event, as tools expect.
    return {"text/event-stream": {"schema": {"$ref": REFERENCE.format(model=component)}}}


def _event(model: type[BaseModel], event: Schema, name: str, example: Mapping[str, Any]) -> Schema:
    """Return the schema of a server-sent event, whose data is the JSON of a model."""
    content: Schema = {"$ref": REFERENCE.format(model=model.__name__)}
    data: Schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {"event": event, "data": data},
        "examples": [{"event": name, "data": orjson.dumps(example).decode()}],
    }


def _with_id(event: Schema, member: str, description: str) -> Schema:
    """Return the schema of the same event with an id, a member of its data."""
    identifier: Schema = {"type": "string", "pattern": "^[0-9]+$", "description": description}
    return {
        **event,
        "required": ["id", *event["required"]],
        "properties": {"id": identifier, **event["properties"]},
        "examples": [{"id": str(orjson.loads(each["data"])[member]), **each} for each in event["examples"]],
    }
