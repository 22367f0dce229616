"""The neutral model of conversations, which every format is read into."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import Field

from domain.content import (
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    Role,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.values import MAX_TITLE_CHARACTERS, Frozen, Text, Title

SourceFormat = Literal["chatgpt", "claude", "open-webui", "openai"]

_NAMESPACE = UUID("0b0c5a0e-2f0d-4f8e-9d56-7f2f6a1f3c11")


class ImageReference(Frozen):
    """An image whose bytes are perhaps in another file of the export."""

    type: Literal["image_reference"] = "image_reference"
    reference: Text = Field(description="The source's own pointer, such as `file-service://file-AbC`, or a file's id.")
    name: Text | None = Field(default=None, description="The file's name, or None.")


ImportedBlock = Annotated[
    TextBlock | ImageBlock | ContextBlock | ReasoningBlock | ToolUseBlock | ToolResultBlock | ImageReference,
    Field(discriminator="type"),
]


class ImportedMessage(Frozen):
    """A message, with its place in the tree of its conversation."""

    source_id: Text = Field(description="The source's id, or the number of the message. Unique in the conversation.")
    parent: Text | None = Field(description="The `source_id` of the message before it, or None for a first message.")
    role: Role
    content: tuple[ImportedBlock, ...]
    model: Text | None = Field(default=None, description="The source's name of the model, or None.")
    said_at: datetime | None = Field(default=None, description="The time in the source, in UTC, or None.")
    is_current: bool = Field(description="Whether it is on the branch that the source shows.")


class ImportedConversation(Frozen):
    """A conversation from another program.

    A message comes after its parent, and the current branch after all others. So messages with one parent are
    alternatives, of which the last is current, and each is followed by what was said after it.
    """

    import_id: UUID = Field(description="Derived from the source, so that a second import finds the first.")
    source_format: SourceFormat
    source_id: Text | None = Field(description="The source's id, or None.")
    title: Title | None = None
    created_at: datetime | None = None
    messages: tuple[ImportedMessage, ...]
    left_out: Mapping[str, int] = Field(
        default_factory=dict, description="Kinds of content that were left out, and how often."
    )


def imported_conversation(
    source_format: SourceFormat,
    source_id: str | None,
    title: str | None,
    created_at: datetime | None,
    messages: tuple[ImportedMessage, ...],
    left_out: Mapping[str, int],
) -> ImportedConversation:
    """Return the conversation with its `import_id` and a title that is short enough."""
    short = title and title[:MAX_TITLE_CHARACTERS]
    return ImportedConversation(
        import_id=uuid5(_NAMESPACE, f"{source_format} {_identity(source_id, short, created_at, messages)}"),
        source_format=source_format,
        source_id=source_id,
        title=short,
        created_at=created_at,
        messages=messages,
        left_out={what: number for what, number in left_out.items() if number},
    )


def _identity(
    source_id: str | None, title: str | None, created_at: datetime | None, messages: tuple[ImportedMessage, ...]
) -> str:
    """Return the text that only this conversation of a format has, at every import."""
    if source_id is not None:
        return f"id {source_id}"
    content = [title, created_at and created_at.isoformat(), [message.model_dump(mode="json") for message in messages]]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256 {hashlib.sha256(canonical.encode()).hexdigest()}"
