"""Reads chunks in OpenAI's shape, in all the variations that servers send.

A variation with a single possible meaning is read in that meaning. A chunk is an error if a part of the answer would
be lost.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from turns.model.gateway_types import ModelChunk
from turns.model.streams.tool_fragments import ToolFragment

_REASONING_FIELDS: Final = (
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "thinking_content",
    "reasoning_details",
)
"""Fields with reasoning, the most common first. Servers that fill several fields repeat the same text."""

_REASONING_PARTS: Final = frozenset({"thinking", "reasoning", "reasoning_content", "summary_text", "thought"})
"""Types of content parts that are reasoning."""

_TEXT_FIELDS: Final = ("text", "thinking", "reasoning", "summary", "content", "refusal", "value")
"""Fields of a part with its text, or with the parts it consists of."""

_COMPLETE_ANSWER: Final = frozenset({"message", "text"})
_NO_REASON: Final = frozenset({"", "null"})


class Delta(NamedTuple):
    """The text and the fragments of tool calls that one chunk adds to an answer."""

    pieces: list[ModelChunk]
    fragments: list[ToolFragment]
    is_refusal: bool = False


def first_choice(chunk: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the first choice of a chunk, None if there is none.

    Raises:
        TypeError: the choices are not a list of objects.
    """
    choices: object = chunk.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choice := cast("list[object]", choices)[0], dict):
        raise TypeError("the provider did not send a list of choices")
    return cast("dict[str, Any]", choice)


def finish_reason_of(choice: Mapping[str, Any]) -> str | None:
    """Return the provider's own finish reason, None as long as there is none.

    Raises:
        TypeError: the finish reason is not a text.
    """
    reason = _text_or_none(choice.get("finish_reason"))
    return None if reason in _NO_REASON else reason


def delta_of_choice(choice: Mapping[str, Any]) -> Delta:
    """Return the delta of a choice.

    Raises:
        TypeError: the choice has a complete answer instead of a delta, or is not of OpenAI's shape.
    """
    delta: object = choice.get("delta")
    if delta is None:
        if not choice.keys().isdisjoint(_COMPLETE_ANSWER):
            raise TypeError("the provider does not stream")
        return Delta([], [])
    if not isinstance(delta, dict):
        raise TypeError("the provider did not send the delta as an object")
    return delta_of_json(cast("dict[str, Any]", delta))


def delta_of_json(delta: Mapping[str, Any]) -> Delta:
    """Return the text and the fragments of tool calls of a delta in JSON.

    Raises:
        TypeError: the delta is not of OpenAI's shape.
    """
    pieces: list[ModelChunk] = []
    for field in _REASONING_FIELDS:
        if (reasoning := delta.get(field)) and (text := _joined(reasoning)):
            pieces.append(ModelChunk("reasoning", text))
            break
    content: object = delta.get("content")
    if content:
        pieces += [ModelChunk("text", content)] if isinstance(content, str) else _pieces_of_parts(content)
    refusal = _text_or_none(delta.get("refusal"))
    if refusal:
        pieces.append(ModelChunk("text", refusal))
    return Delta(pieces, _fragments(delta), bool(refusal) or _has_refusal(content))


def _pieces_of_parts(content: object) -> list[ModelChunk]:
    """Return the pieces of a content that is a part or a list of parts."""
    pieces: list[ModelChunk] = []
    for part in cast("list[object]", content) if isinstance(content, list) else [content]:
        if not isinstance(part, str | dict):
            raise TypeError("the provider did not send a text")
        if text := _joined(cast("object", part)):
            pieces.append(ModelChunk("reasoning" if _is_reasoning(cast("object", part)) else "text", text))
    return pieces


def _has_refusal(content: object) -> bool:
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return any(isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "refusal" for part in parts)


def _is_reasoning(part: object) -> bool:
    return isinstance(part, dict) and cast("dict[str, Any]", part).get("type") in _REASONING_PARTS


def _joined(value: object) -> str:
    """Return all text of a part or of a list of parts, or the text itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_joined, cast("list[object]", value)))
    if isinstance(value, dict):
        part = cast("dict[str, Any]", value)
        return next((text for field in _TEXT_FIELDS if (text := _joined(part.get(field)))), "")
    return ""


def _fragments(delta: Mapping[str, Any]) -> list[ToolFragment]:
    """Return the fragments of a delta's tool calls.

    Older servers send a single `function_call` instead.
    """
    calls: object = delta.get("tool_calls")
    if not calls:
        called: object = delta.get("function_call")
        return [_fragment({"index": 0, "function": called}, None)] if called else []
    listed = cast("list[object]", calls) if isinstance(calls, list) else [calls]
    # The place in the list identifies a call if nothing else does. A single call may belong to any.
    places: Iterable[int | None] = range(len(listed)) if len(listed) > 1 else [None]
    return [_fragment(call, place) for call, place in zip(listed, places, strict=True)]


def _fragment(call: object, place: int | None) -> ToolFragment:
    if not isinstance(call, dict):
        raise TypeError("the provider did not send the tool call as an object")
    entry = cast("dict[str, Any]", call)
    function: object = entry.get("function") or entry
    if not isinstance(function, dict):
        raise TypeError("the provider did not send the function of a tool call as an object")
    fields = cast("dict[str, Any]", function)
    extra = entry.get("extra_content") or fields.get("extra_content")
    return ToolFragment(
        index=_index(entry.get("index")),
        id=_id(entry.get("id")),
        name=_text_or_none(fields.get("name")),
        arguments=_arguments(fields.get("arguments")),
        extra_content=cast("dict[str, Any]", extra) if isinstance(extra, dict) else None,
        place=place,
    )


def _index(value: object) -> int | str | None:
    """Return the number of a call. Some servers number in other types, or not at all."""
    if isinstance(value, str | float):
        try:
            return int(value)
        except (ValueError, OverflowError):
            return str(value) or None
    return value if isinstance(value, int) else None


def _id(value: object) -> str | None:
    return str(value) if isinstance(value, int) else _text_or_none(value)


def _arguments(value: object) -> str:
    """Return arguments as JSON text. Some servers send an object."""
    return json.dumps(value) if isinstance(value, dict) else _text_or_none(value) or ""


def _text_or_none(value: Any) -> str | None:
    """Return the value itself.

    Raises:
        TypeError: it is neither a text nor None.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError("the provider did not send a text")
    return value
