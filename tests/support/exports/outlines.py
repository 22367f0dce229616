"""Outlines of what was read from an export, a line for each message."""

import json
from collections.abc import Iterable

from audit.imports.imported_conversation import ImageReference, ImportedBlock, ImportedMessage
from domain.content import ContextBlock, ImageBlock, ReasoningBlock, TextBlock, ToolUseBlock


def outline(messages: Iterable[ImportedMessage]) -> list[str]:
    """Return a line for each message, with a star if it is current."""
    return [
        f"{message.source_id} < {message.parent} {message.role}: {' | '.join(map(shown_block, message.content))}"
        f"{' *' if message.is_current else ''}"
        for message in messages
    ]


def shown_block(block: ImportedBlock) -> str:
    match block:
        case TextBlock():
            return block.text
        case ReasoningBlock():
            return f"({block.text})"
        case ContextBlock():
            return f"context {json.dumps(block.data)}"
        case ImageBlock():
            return f"[{block.url or block.media_type}]"
        case ImageReference():
            return f"[{block.reference} {block.name}]"
        case ToolUseBlock():
            return f"{block.id}={block.name}({json.dumps(block.input)})"
        case _:
            return f"{block.tool_use_id}{' failed' if block.is_error else ''}: {block.content}"
