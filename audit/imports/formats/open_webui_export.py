"""Chats of an Open WebUI export, a list of chats.

The messages of a chat are a tree, `history.messages`, of which `currentId` ends the branch that is shown. Chats of the
first releases have a list, `messages`, instead.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from audit.imports.errors import at, shown
from audit.imports.fields import (
    JsonMap,
    as_list,
    as_object,
    moment,
    optional_id,
    optional_list,
    optional_object,
    optional_text,
    role_of,
)
from audit.imports.formats.openai_messages import content_part
from audit.imports.formats.rendered_details import parts_of_rendered
from audit.imports.imported_conversation import ImportedConversation, imported_conversation
from audit.imports.message_tree import SourceNode, imported_messages
from audit.imports.source_parts import (
    SourceCall,
    SourcePart,
    SourceResult,
    arguments,
    attached_text,
    image,
    reasoning,
    texts,
)
from domain.content import Role

_INTERPRETER = "code_interpreter"


def is_open_webui_chat(given: JsonMap) -> bool:
    """Return whether this looks like a chat of Open WebUI."""
    return isinstance(given.get("chat"), dict) or isinstance(given.get("history"), dict)


def open_webui_chat(given: JsonMap) -> ImportedConversation:
    """Return a chat of Open WebUI.

    Raises:
        ImportFormatError: it is none, or it is damaged.
    """
    left_out: Counter[str] = Counter()
    # The first releases exported the chat without the row around it.
    chat = as_object(given["chat"], "chat") if "chat" in given else given
    history = optional_object(chat, "history")
    messages = optional_object(history, "messages")
    if messages or ("messages" in history and "messages" not in chat):
        nodes = [_of_tree(message_id, message, left_out) for message_id, message in messages.items()]
        current = optional_text(history, "currentId")
    else:
        nodes = _of_list(as_list(chat.get("messages"), "messages"), left_out)
        current = nodes[-1].id if nodes else None
    return imported_conversation(
        "open-webui",
        optional_id(given, "id") or optional_id(chat, "id"),
        optional_text(given, "title") or optional_text(chat, "title"),
        moment(given, "created_at") or moment(chat, "timestamp"),
        imported_messages([_with_model(node, chat) for node in nodes], current),
        left_out,
    )


def _of_tree(message_id: str, message: object, left_out: Counter[str]) -> SourceNode:
    with at(f"message {shown(message_id)}"):
        given = as_object(message, "it")
        children = tuple(child for child in optional_list(given, "childrenIds") if isinstance(child, str))
        return _node(message_id, optional_text(given, "parentId"), given, children, left_out)


def _of_list(messages: list[Any], left_out: Counter[str]) -> list[SourceNode]:
    nodes: list[SourceNode] = []
    for number, message in enumerate(messages, start=1):
        with at(f"message {number}"):
            given = as_object(message, "it")
            parent = nodes[-1].id if nodes else None
            nodes.append(_node(optional_id(given, "id") or str(number), parent, given, (), left_out))
    return nodes


def _node(
    message_id: str, parent: str | None, given: JsonMap, children: tuple[str, ...], left_out: Counter[str]
) -> SourceNode:
    role = role_of(given, "role")
    parts = (*_said(given, role, left_out), *_files(given, role, left_out))
    return SourceNode(
        message_id, parent, role, parts, optional_text(given, "model"), moment(given, "timestamp"), children
    )


def _with_model(node: SourceNode, chat: JsonMap) -> SourceNode:
    """Return the node with the chat's model if it has none and the chat has only one."""
    models = optional_list(chat, "models")
    if node.model is not None or len(models) != 1 or not isinstance(models[0], str):
        return node
    return replace(node, model=models[0])


def _said(given: JsonMap, role: Role, left_out: Counter[str]) -> Iterator[SourcePart]:
    content = given.get("content")
    if output := optional_list(given, "output"):
        for item in output:
            yield from _output(as_object(item, "an item of output"), left_out)
    elif content is None or isinstance(content, str):
        yield from parts_of_rendered(content or "") if role == "assistant" else texts(content)
    else:
        for part in as_list(content, "content"):
            yield from content_part(as_object(part, "a part of content"), left_out)


def _output(item: JsonMap, left_out: Counter[str]) -> Iterator[SourcePart]:
    """Yield the parts of an item of `output`, in the form of the Responses API."""
    match optional_text(item, "type"):
        case "message":
            for part in optional_list(item, "content"):
                yield from content_part(as_object(part, "a part of content"), left_out)
        case "reasoning":
            yield from reasoning(_texts_in(item.get("summary") or item.get("content")))
        case "function_call":
            call_id, name = optional_text(item, "call_id", "id"), optional_text(item, "name")
            yield SourceCall(call_id, name, arguments(item.get("arguments")))
        case "function_call_output":
            yield SourceResult(optional_text(item, "call_id"), None, _texts_in(item.get("output")))
        case "open_webui:code_interpreter":
            code = {key: text for key in ("lang", "code") if (text := optional_text(item, key))}
            yield SourceCall(None, _INTERPRETER, code)
            if result := item.get("output"):
                text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
                yield SourceResult(None, _INTERPRETER, text)
        case item_type:
            left_out[f"content of the type {(item_type or 'unknown')[:64]}"] += 1


def _texts_in(value: object) -> str:
    """Return a text, or the texts of a list of parts."""
    if value is None or isinstance(value, str):
        return value or ""
    parts = [as_object(part, "a part of output") for part in as_list(value, "output")]
    return "\n".join(text for part in parts if (text := optional_text(part, "text")))


def _files(given: JsonMap, role: Role, left_out: Counter[str]) -> Iterator[SourcePart]:
    for item in optional_list(given, "files"):
        file = as_object(item, "a file")
        url, name = optional_text(file, "url"), optional_text(file, "name")
        if optional_text(file, "type") == "image":
            if url and (found := image(url, name)):
                yield found
            else:
                left_out["images of other kinds"] += 1
        elif role == "user" and (text := _text_of_file(file)):
            yield attached_text(name or "", None, text)
        else:
            left_out["attached files"] += 1


def _text_of_file(file: JsonMap) -> str | None:
    """Return the text that Open WebUI found in an attached file, or None."""
    inner = file.get("file")
    if not isinstance(inner, dict):
        return None
    data = cast(JsonMap, inner).get("data")
    return optional_text(cast(JsonMap, data), "content") if isinstance(data, dict) else None
