"""Conversations of the ChatGPT data export: `conversations.json`, or parts of it.

OpenAI documents no format. A conversation is a tree, `mapping`, of which `current_node` ends the branch that is shown.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from audit.imports.errors import at, shown
from audit.imports.fields import (
    JsonMap,
    as_object,
    moment,
    optional_id,
    optional_list,
    optional_object,
    optional_text,
    role_of,
)
from audit.imports.imported_conversation import ImageReference, ImportedConversation, imported_conversation
from audit.imports.message_tree import SourceNode, imported_messages
from audit.imports.source_parts import SourceCall, SourcePart, SourceResult, arguments, joined_text, reasoning, texts
from domain.content import Role, TextBlock

_EVERYBODY = ("all", None)
_NO_LANGUAGE = ("unknown", None)
_SOUND_AND_FILM = frozenset(
    {"audio_asset_pointer", "video_container_asset_pointer", "real_time_user_audio_video_asset_pointer"}
)


def is_chatgpt_conversation(given: JsonMap) -> bool:
    """Return whether this looks like a conversation of ChatGPT."""
    return "mapping" in given


def chatgpt_conversation(given: JsonMap) -> ImportedConversation:
    """Return a conversation of ChatGPT.

    Raises:
        ImportFormatError: it is none, or it is damaged.
    """
    left_out: Counter[str] = Counter()
    mapping = as_object(given.get("mapping"), "mapping")
    nodes = [_node(node_id, as_object(node, f"node {shown(node_id)}"), left_out) for node_id, node in mapping.items()]
    return imported_conversation(
        "chatgpt",
        optional_id(given, "conversation_id", "id"),
        optional_text(given, "title"),
        moment(given, "create_time"),
        imported_messages(nodes, optional_text(given, "current_node")),
        left_out,
    )


def _node(node_id: str, node: JsonMap, left_out: Counter[str]) -> SourceNode:
    with at(f"message {shown(node_id)}"):
        parent = optional_text(node, "parent")
        children = tuple(child for child in optional_list(node, "children") if isinstance(child, str))
        message = optional_object(node, "message")
        if not message:
            return SourceNode(node_id, parent, children=children)
        role, parts = _role_and_parts(node_id, message, left_out)
        return SourceNode(
            node_id,
            parent,
            role,
            tuple(parts),
            optional_text(optional_object(message, "metadata"), "model_slug"),
            moment(message, "create_time"),
            children,
        )


def _role_and_parts(node_id: str, message: JsonMap, left_out: Counter[str]) -> tuple[Role, list[SourcePart]]:
    """Return the role of a message in Turnlog and its parts, none if it is left out."""
    author, content, metadata = (optional_object(message, key) for key in ("author", "content", "metadata"))
    role = role_of(author, "role")
    if instructions := _instructions(content, metadata):
        return "system", list(texts(instructions))
    # Hidden results are kept: the calls that they answer are shown.
    if metadata.get("is_visually_hidden_from_conversation") is True and role != "tool":
        left_out["hidden messages"] += bool(optional_text(content, "text") or any(optional_list(content, "parts")))
        return role, []
    left_out["attached files"] += sum(_is_no_image(file) for file in optional_list(metadata, "attachments"))
    parts = list(_parts(content, left_out))
    if role == "tool":
        failed = content.get("content_type") == "system_error"
        result = SourceResult(None, optional_text(author, "name"), _bare_text(content, parts), failed)
        return role, [result, *(part for part in parts if not isinstance(part, TextBlock))]
    recipient = optional_text(message, "recipient")
    if role == "assistant" and recipient not in _EVERYBODY:
        return role, [SourceCall(node_id, recipient, arguments(_bare_text(content, parts)))]
    return role, parts


def _instructions(content: JsonMap, metadata: JsonMap) -> str:
    """Return the user's custom instructions if the message holds them, else nothing."""
    if content.get("content_type") == "user_editable_context":
        return _paragraphs(content, "user_profile", "user_instructions")
    if metadata.get("is_user_system_message") is True:
        context = optional_object(metadata, "user_context_message_data")
        return _paragraphs(context, "about_user_message", "about_model_message")
    return ""


def _is_no_image(file: object) -> bool:
    # An image is also a part of the message.
    media_type = optional_text(as_object(file, "an attachment"), "mime_type", "mimeType")
    return not (media_type or "").startswith("image/")


def _bare_text(content: JsonMap, parts: list[SourcePart]) -> str:
    """Return the text of a call or a result, without the fence of code."""
    code = optional_text(content, "text") if content.get("content_type") == "code" else None
    return code or joined_text(parts)


def _parts(content: JsonMap, left_out: Counter[str]) -> Iterator[SourcePart]:
    content_type = optional_text(content, "content_type") or "text"
    if content_type in _PARTS:
        yield from _PARTS[content_type](content)
    elif content_type == "reasoning_recap":
        left_out["reasoning recaps"] += 1  # such as "Thought for 5 seconds"
    elif content_type in ("text", "multimodal_text") or "parts" in content:
        for part in optional_list(content, "parts"):
            yield from _part(part, left_out)
    elif text := _paragraphs(content, "title", "url", "text", "result"):
        yield from texts(text)
    else:
        left_out[f"content of the type {content_type[:64]}"] += 1


def _part(part: object, left_out: Counter[str]) -> Iterator[SourcePart]:
    if isinstance(part, str):
        yield from texts(part)
        return
    given = as_object(part, "a part")
    part_type = optional_text(given, "content_type") or "unknown"
    if part_type == "image_asset_pointer" and (pointer := optional_text(given, "asset_pointer")):
        yield ImageReference(reference=pointer)
    elif part_type in _SOUND_AND_FILM:
        left_out["sound and film"] += 1
    elif text := optional_text(given, "text"):
        yield from texts(text)
    else:
        left_out[f"content of the type {part_type[:64]}"] += 1


def _code(content: JsonMap) -> Iterator[SourcePart]:
    language = optional_text(content, "language")
    if text := optional_text(content, "text"):
        yield from texts(f"```{'' if language in _NO_LANGUAGE else language}\n{text}\n```")


def _thoughts(content: JsonMap) -> Iterator[SourcePart]:
    thoughts = content.get("thoughts")
    if isinstance(thoughts, str):
        yield from reasoning(thoughts)
        return
    for thought in optional_list(content, "thoughts"):
        yield from reasoning(_paragraphs(as_object(thought, "a thought"), "summary", "content"))


def _tool_text(content: JsonMap) -> Iterator[SourcePart]:
    yield from texts(_paragraphs(content, "title", "url", "text", "result", "summary"))


def _paragraphs(given: JsonMap, *keys: str) -> str:
    return "\n\n".join(text for key in keys if (text := optional_text(given, key)))


_PARTS: dict[str, Callable[[JsonMap], Iterator[SourcePart]]] = {
    "code": _code,
    "thoughts": _thoughts,
    "execution_output": _tool_text,
    "system_error": _tool_text,
    "tether_quote": _tool_text,
    "tether_browsing_display": _tool_text,
    "sonic_webpage": _tool_text,
}
