"""Conversations of OpenAI-style messages, one on a line: `{"messages": [...]}`.

The messages are those of the Chat Completions API, which files for fine-tuning hold too. A line of a file for direct
preference optimization has an answer that is preferred and one that is not.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from audit.imports.errors import at
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
from audit.imports.imported_conversation import ImportedConversation, imported_conversation
from audit.imports.message_tree import SourceNode, imported_messages
from audit.imports.source_parts import (
    SourceCall,
    SourcePart,
    SourceResult,
    arguments,
    image,
    joined_text,
    reasoning,
    texts,
)
from domain.content import TextBlock

_CREATED = ("created_at", "create_time", "created", "timestamp")


def is_openai_conversation(given: JsonMap) -> bool:
    """Return whether this looks like a line of OpenAI-style messages."""
    return "messages" in given or {"input", "preferred_output"} <= given.keys()


def openai_conversation(given: JsonMap) -> ImportedConversation:
    """Return the conversation of a line.

    Raises:
        ImportFormatError: it is none, or it is damaged.
    """
    left_out: Counter[str] = Counter()
    model = optional_text(given, "model")
    if "preferred_output" in given:
        asked = given.get("input")
        prompt = optional_object(given, "input").get("messages") if isinstance(asked, dict) else asked
        nodes = _chain(as_list(prompt, "input.messages"), None, "", model, left_out)
        last = nodes[-1].id if nodes else None
        rejected = _chain(optional_list(given, "non_preferred_output"), last, "rejected ", model, left_out)
        preferred = _chain(as_list(given["preferred_output"], "preferred_output"), last, "preferred ", model, left_out)
        current = (preferred or nodes)[-1].id if preferred or nodes else None
        nodes = [*nodes, *rejected, *preferred]
    else:
        nodes = _chain(as_list(given.get("messages"), "messages"), None, "", model, left_out)
        current = nodes[-1].id if nodes else None
    return imported_conversation(
        "openai",
        optional_id(given, "id", "conversation_id", "custom_id"),
        optional_text(given, "title"),
        moment(given, *_CREATED),
        imported_messages(nodes, current),
        left_out,
    )


def _chain(
    messages: Iterable[object], parent: str | None, prefix: str, model: str | None, left_out: Counter[str]
) -> list[SourceNode]:
    """Return messages that follow each other, the first of which follows `parent`."""
    nodes: list[SourceNode] = []
    for number, item in enumerate(messages, start=1):
        with at(f"message {prefix}{number}"):
            message = as_object(item, "it")
            node = SourceNode(
                optional_id(message, "id") or f"{prefix}{number}",
                nodes[-1].id if nodes else parent,
                role_of(message, "role"),
                tuple(message_parts(message, left_out)),
                optional_text(message, "model") or model,
                moment(message, *_CREATED),
            )
        nodes.append(node)
    return nodes


def message_parts(message: JsonMap, left_out: Counter[str]) -> Iterator[SourcePart]:
    """Yield the parts of one message."""
    role = role_of(message, "role")
    said = list(_content(message.get("content"), left_out))
    if role == "tool":
        name = optional_text(message, "name")
        yield SourceResult(optional_text(message, "tool_call_id"), name, joined_text(said))
        yield from (part for part in said if not isinstance(part, TextBlock))
        return
    yield from reasoning(optional_text(message, "reasoning_content", "reasoning"))
    yield from said
    yield from texts(optional_text(message, "refusal"))
    for call in chain(optional_list(message, "tool_calls"), [message.get("function_call")]):
        if call is not None:
            yield _call(as_object(call, "a tool call"))


def _content(content: object, left_out: Counter[str]) -> Iterator[SourcePart]:
    """Yield the parts of a content, which is a text, a list of parts, or null."""
    if content is None or isinstance(content, str):
        yield from texts(content)
        return
    for item in as_list(content, "content"):
        yield from content_part(as_object(item, "a part of content"), left_out)


def content_part(part: JsonMap, left_out: Counter[str]) -> Iterator[SourcePart]:
    """Yield a part of a content, or count it as left out."""
    match optional_text(part, "type"):
        case "text" | "input_text" | "output_text":
            yield from texts(optional_text(part, "text"))
        case "refusal":
            yield from texts(optional_text(part, "refusal"))
        case "image_url" | "input_image":
            address = part.get("image_url")
            url = address if isinstance(address, str) else optional_text(optional_object(part, "image_url"), "url")
            if url and (found := image(url)):
                yield found
            else:
                left_out["images of other kinds"] += 1
        case part_type:
            left_out[f"content of the type {(part_type or 'unknown')[:64]}"] += 1


def _call(call: JsonMap) -> SourceCall:
    """Return a call of `tool_calls`, or the older `function_call`."""
    called = optional_object(call, "function") or optional_object(call, "custom") or call
    given = called.get("arguments", called.get("input"))
    return SourceCall(optional_text(call, "id"), optional_text(called, "name"), arguments(given))
