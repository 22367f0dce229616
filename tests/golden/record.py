"""Adds the golden files that are missing: `python -m tests.golden.record`.

Each shape in which an event was ever stored has a file here, `<type>-v<class_version>.json`: examples as they are
stored, and the JSON schema of the shape. Files are only added, never changed: what they hold is in somebody's log. To
change a shape, raise the event's `class_version`, write its `upcast_vX_vY`, and run this.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from domain.content import (
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.conversation import Conversation, ConversationSnapshot
from domain.events import EVENT_TYPES, ConversationEvent
from tests.support.builders import Story, one_of_each
from tests.support.store import MAPPER

FOLDER = Path(__file__).parent
STORED_TYPES: dict[str, type[ConversationEvent]] = {**EVENT_TYPES, ConversationSnapshot.TOPIC: ConversationSnapshot}


def golden_file(type_name: str, version: int) -> Path:
    return FOLDER / f"{type_name}-v{version}.json"


def shape_of(cls: type[ConversationEvent]) -> Any:
    """Return the JSON schema of what is stored for `cls`, without the words in it, which may change."""
    schema = cls.model_json_schema()
    if cls is ConversationSnapshot:
        schema["properties"]["state"] = TypeAdapter(Conversation).json_schema()
    return _wordless(schema)


def _wordless(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_wordless(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A property may be called `title`: then it is an object and no word.
    return {k: _wordless(v) for k, v in schema.items() if not (k in {"title", "description"} and isinstance(v, str))}


def examples() -> list[ConversationEvent]:
    """Return events that between them use every field and every block."""
    events = one_of_each()
    story = Story()
    blocks = (
        TextBlock(text="Grüße\n"),
        ImageBlock(media_type="image/gif", data="R0lGODlh"),
        ImageBlock(url="https://example.org/cat.png"),
        ContextBlock(data={"page": 3, "large": 2**70, "nested": [{"a": None}]}),
        ReasoningBlock(text="Hm"),
        ToolUseBlock(id="call_1", name="search", input={"q": "cats"}),
        ToolResultBlock(tool_use_id="call_1", content="[]", is_error=True),
    )
    (said,) = story.say()
    story.ask()
    return [*events, said.model_copy(update={"content": blocks}), ConversationSnapshot.take(story.state)]


def record() -> list[Path]:
    """Write the files that are missing and return them."""
    written: list[Path] = []
    for type_name, cls in STORED_TYPES.items():
        path = golden_file(type_name, cls.class_version)
        if not path.exists():
            stored = [MAPPER.to_stored_event(event) for event in examples() if type(event) is cls]  # pyright: ignore
            golden = {"stored": [from_json(event.state) for event in stored], "shape": shape_of(cls)}
            path.write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(path)
    return written


if __name__ == "__main__":
    for path in record():
        print(path.name)
