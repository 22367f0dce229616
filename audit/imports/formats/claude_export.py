"""Conversations of the Claude data export: `conversations.json`.

Anthropic documents no format. A conversation is a list, `chat_messages`, whose `parent_message_uuid` makes it a tree.
Older exports have no parents, and their messages follow each other.
"""

import json
import mimetypes
from collections import Counter
from collections.abc import Iterator
from typing import Any

from audit.imports.errors import at
from audit.imports.fields import (
    JsonMap,
    as_list,
    as_object,
    moment,
    optional_id,
    optional_list,
    optional_text,
    role_of,
)
from audit.imports.imported_conversation import ImageReference, ImportedConversation, imported_conversation
from audit.imports.message_tree import SourceNode, imported_messages
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult, arguments, attached_text, reasoning, texts
from domain.content import Role

_NO_PARENT = ("00000000-0000-4000-8000-000000000000", "00000000-0000-0000-0000-000000000000", None)


def is_claude_conversation(given: JsonMap) -> bool:
    """Return whether this looks like a conversation of Claude."""
    return "chat_messages" in given


def claude_conversation(given: JsonMap) -> ImportedConversation:
    """Return a conversation of Claude.

    Raises:
        ImportFormatError: it is none, or it is damaged.
    """
    left_out: Counter[str] = Counter()
    nodes: list[SourceNode] = []
    for number, message in enumerate(as_list(given.get("chat_messages"), "chat_messages"), start=1):
        before = nodes[-1].id if nodes else None
        with at(f"message {number}"):
            nodes.append(_node(as_object(message, "it"), number, before, left_out))
    return imported_conversation(
        "claude",
        optional_id(given, "uuid"),
        optional_text(given, "name"),
        moment(given, "created_at"),
        imported_messages(nodes, optional_text(given, "current_leaf_message_uuid")),
        left_out,
    )


def _node(message: JsonMap, number: int, before: str | None, left_out: Counter[str]) -> SourceNode:
    parent = optional_text(message, "parent_message_uuid") if "parent_message_uuid" in message else before
    role = role_of(message, "sender")
    return SourceNode(
        optional_text(message, "uuid") or str(number),
        None if parent in _NO_PARENT else parent,
        role,
        (*_said(message, left_out), *_attached(message, role, left_out)),
        said_at=moment(message, "created_at"),
    )


def _said(message: JsonMap, left_out: Counter[str]) -> Iterator[SourcePart]:
    blocks = optional_list(message, "content")
    if not blocks:
        yield from texts(optional_text(message, "text"))
    for block in blocks:
        yield from _block(as_object(block, "a block of content"), left_out)


def _block(block: JsonMap, left_out: Counter[str]) -> Iterator[SourcePart]:
    match optional_text(block, "type"):
        case "thinking":
            yield from reasoning(optional_text(block, "thinking"))
        case "tool_use":
            yield SourceCall(optional_text(block, "id"), optional_text(block, "name"), arguments(block.get("input")))
        case "tool_result":
            yield SourceResult(
                optional_text(block, "tool_use_id"),
                optional_text(block, "name"),
                _result(block.get("content"), left_out),
                block.get("is_error") is True,
            )
        case block_type if block_type == "text" or "text" in block:
            yield from texts(optional_text(block, "text"))
        case block_type:
            left_out[f"content of the type {(block_type or 'unknown')[:64]}"] += 1


def _result(content: object, left_out: Counter[str]) -> str:
    """Return the content of a result as one text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(text for item in as_list(content, "the result") if (text := _result_item(item, left_out)))


def _result_item(item: Any, left_out: Counter[str]) -> str | None:
    given = as_object(item, "an item of the result")
    if given.get("type") == "image":
        left_out["images in results of tools"] += 1
        return None
    if "text" in given:
        return "\n".join(text for key in ("title", "url", "text") if (text := optional_text(given, key)))
    return json.dumps(given, ensure_ascii=False)


def _attached(message: JsonMap, role: Role, left_out: Counter[str]) -> Iterator[SourcePart]:
    for item in optional_list(message, "attachments"):
        attachment = as_object(item, "an attachment")
        name = optional_text(attachment, "file_name")
        text = optional_text(attachment, "extracted_content")
        if text is None:
            left_out["attached files"] += 1
        elif name is None or role != "user":  # a long text that was pasted has no name
            yield from texts(text)
        else:
            yield attached_text(name, optional_text(attachment, "file_type"), text)
    for item in optional_list(message, "files"):
        file = as_object(item, "a file")
        name = optional_text(file, "file_name")
        reference = optional_text(file, "file_uuid", "uuid") or name
        if reference is not None and _is_image(file, name):
            yield ImageReference(reference=reference, name=name)
        else:
            left_out["attached files"] += 1


def _is_image(file: JsonMap, name: str | None) -> bool:
    if kind := optional_text(file, "file_kind"):
        return kind == "image"
    media_type, _ = mimetypes.guess_type(name or "")
    return media_type is not None and media_type.startswith("image/")
