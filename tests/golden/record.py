"""Add the missing golden files: `python -m tests.golden.record`.

Each shape in which an event was ever stored has a file here, `<type>-v<class_version>.json`: examples as they are
stored, and the JSON schema of the shape. Files are only added, never changed, because deployed logs contain these
shapes. To change a shape, raise the event's `class_version`, write its `upcast_vX_vY`, and run this module.

`types_used.json` lists the event types from which each version of a projection and of the snapshot is built. A release
skips types that it does not know. That is correct only as long as a version never begins to use a further type.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from domain.aggregates import AggregateEvent
from domain.content import (
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.conversation import Conversation, ConversationSnapshot
from domain.events import CONVERSATION_EVENTS, EVENT_TYPES, StreamDelta
from projections.catalog import PROJECTIONS
from tests.support.histories.agents import one_of_each_agent
from tests.support.histories.builders import Story, audit_read, one_of_each, usage
from tests.support.store import MAPPER

FOLDER = Path(__file__).parent
TYPES_USED = FOLDER / "types_used.json"
STORED_TYPES: dict[str, type[AggregateEvent]] = {**EVENT_TYPES, ConversationSnapshot.TOPIC: ConversationSnapshot}


def golden_file(type_name: str, version: int, folder: Path = FOLDER) -> Path:
    return folder / f"{type_name}-v{version}.json"


def read(path: Path) -> dict[str, Any]:
    """Return the content of a golden file.

    A shape's file has `stored`, a list of states, and `shape`, a JSON schema.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def shape_of(cls: type[AggregateEvent]) -> Any:
    """Return the JSON schema of the stored states of `cls`, without descriptions."""
    schema = cls.model_json_schema()
    if cls is ConversationSnapshot:
        schema["properties"]["state"] = TypeAdapter(Conversation).json_schema()
    return _wordless(schema)


def _wordless(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_wordless(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A property may have the name `title`. Then it is an object, not a string.
    return {k: _wordless(v) for k, v in schema.items() if not (k in {"title", "description"} and isinstance(v, str))}


def examples() -> list[AggregateEvent]:
    """Return events that together use every field and every block."""
    events = [*one_of_each(), *one_of_each_agent()]
    story = Story()
    blocks = (
        TextBlock(text="Grüße\n"),
        ImageBlock(media_type="image/gif", data="R0lGODlh"),
        ImageBlock(media_type="image/gif", sha256=sha256(b"GIF89a").hexdigest()),
        ImageBlock(url="https://example.org/cat.png"),
        ContextBlock(data={"page": 3, "large": 2**70, "nested": [{"a": None}]}),
        ReasoningBlock(text="Hm"),
        ToolUseBlock(id="call_1", name="search", input={"q": "cats"}),
        ToolUseBlock(id="call_2", name="search", input={}, extra_content={"google": {"thought_signature": "c2ln"}}),
        ToolResultBlock(tool_use_id="call_1", content="[]", is_error=True),
    )
    (message,) = story.say()
    story.ask()
    runs = ConversationSnapshot.take(story.state)
    story.queue()
    story.call_tools("add", usage=usage(), time_to_first_token_ms=12.5)
    waits = ConversationSnapshot.take(story.state)
    return [*events, message.model_copy(update={"content": blocks}), runs, waits, audit_read()]


def record(cls: type[AggregateEvent], events: Sequence[AggregateEvent], folder: Path = FOLDER) -> Path | None:
    """Write the file of the current shape of `cls`, with its examples in `events`.

    Return None if the file exists.
    """
    path = golden_file(cls.TOPIC, cls.class_version, folder)
    if path.exists():
        return None
    stored = [MAPPER.to_stored_event(event) for event in events if type(event) is cls]  # pyright: ignore
    golden = {"stored": [from_json(event.state) for event in stored], "shape": shape_of(cls)}
    path.write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def types_used() -> dict[str, list[str]]:
    """Return the types that projections and the snapshot use, by name and version."""
    used = {f"{each.name}-v{each.version}": sorted(cls.TOPIC for cls in each.types) for each in PROJECTIONS}
    folded = sorted(cls.TOPIC for cls in CONVERSATION_EVENTS - {StreamDelta})
    return {**used, f"{ConversationSnapshot.TOPIC}-v{ConversationSnapshot.class_version}": folded}


def record_types_used(path: Path = TYPES_USED) -> Path | None:
    """Add the current versions to the file, or return None if it has them."""
    recorded: dict[str, list[str]] = read(path) if path.exists() else {}
    merged = {**types_used(), **recorded}
    if merged == recorded:
        return None
    path.write_text(json.dumps(dict(sorted(merged.items())), indent=2) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    written = [*(record(cls, examples()) for cls in STORED_TYPES.values()), record_types_used()]
    print("\n".join(path.name for path in written if path) or "Nothing is missing.")
