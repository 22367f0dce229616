"""What a chunk in OpenAI's shape adds to an answer, in all the variations that servers send.

Where a server sends something that has a single reading, it is read so. Where what the model said would be lost, the
chunk is an error.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from turns.model.call import ModelChunk
from turns.model.streams.tool_fragments import ToolFragment

_REASONING_FIELDS: Final = (
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "thinking_content",
    "reasoning_details",
)
"""Where servers put reasoning, the most common first; those that fill several fields repeat themselves."""

_REASONING_PARTS: Final = frozenset({"thinking", "reasoning", "reasoning_content", "summary_text", "thought"})
"""The types of parts of a content that are reasoning."""

_TEXTS_OF_PARTS: Final = ("text", "thinking", "reasoning", "summary", "content", "refusal", "value")
"""Where a part keeps its text, or the parts it consists of."""

_WHOLE_ANSWER: Final = frozenset({"message", "text"})
_NO_REASON: Final = frozenset({"", "null"})


class Delta(NamedTuple):
    """What one chunk of a provider adds to its answer."""

    pieces: list[ModelChunk]
    fragments: list[ToolFragment]
    is_refusal: bool = False


def first_choice(chunk: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the first choice of a chunk, None where there is none.

    Raises:
        TypeError: it is nothing of the kind.
    """
    choices: object = chunk.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choice := cast("list[object]", choices)[0], dict):
        raise TypeError("the provider sent something else than choices")
    return cast("dict[str, Any]", choice)


def finish_reason_of(choice: Mapping[str, Any]) -> str | None:
    """Return why the provider finished, in its own word; None as long as it has not said so.

    Raises:
        TypeError: it is no word.
    """
    reason = _text_or_none(choice.get("finish_reason"))
    return None if reason in _NO_REASON else reason


def delta_of_choice(choice: Mapping[str, Any]) -> Delta:
    """Return what a choice adds; one that is no piece of a stream, but a whole answer, says something that is not read.

    Raises:
        TypeError: it is one, or not of OpenAI's shape.
    """
    delta: object = choice.get("delta")
    if delta is None:
        if not choice.keys().isdisjoint(_WHOLE_ANSWER):
            raise TypeError("the provider does not stream")
        return Delta([], [])
    if not isinstance(delta, dict):
        raise TypeError("the provider sent something else than a delta")
    return delta_of_json(cast("dict[str, Any]", delta))


def delta_of_json(delta: Mapping[str, Any]) -> Delta:
    """Return what a delta adds.

    Raises:
        TypeError: it is not of OpenAI's shape.
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
    """Return the pieces of a content that comes as a part or a list of parts."""
    pieces: list[ModelChunk] = []
    for part in cast("list[object]", content) if isinstance(content, list) else [content]:
        if not isinstance(part, str | dict):
            raise TypeError("the provider sent something else than text")
        if text := _joined(cast("object", part)):
            pieces.append(ModelChunk("reasoning" if _is_reasoning(cast("object", part)) else "text", text))
    return pieces


def _has_refusal(content: object) -> bool:
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return any(isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "refusal" for part in parts)


def _is_reasoning(part: object) -> bool:
    return isinstance(part, dict) and cast("dict[str, Any]", part).get("type") in _REASONING_PARTS


def _joined(said: object) -> str:
    """Return all text of a part, of parts, or of text itself."""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return "".join(map(_joined, cast("list[object]", said)))
    if isinstance(said, dict):
        part = cast("dict[str, Any]", said)
        return next((text for field in _TEXTS_OF_PARTS if (text := _joined(part.get(field)))), "")
    return ""


def _fragments(delta: Mapping[str, Any]) -> list[ToolFragment]:
    """Return the fragments of a delta's tool calls, and of the one function that older servers call."""
    calls: object = delta.get("tool_calls")
    if not calls:
        called: object = delta.get("function_call")
        return [_fragment({"index": 0, "function": called}, None)] if called else []
    listed = cast("list[object]", calls) if isinstance(calls, list) else [calls]
    # The place in a list tells calls apart where nothing else does; one call alone may belong to any.
    places: Iterable[int | None] = range(len(listed)) if len(listed) > 1 else [None]
    return [_fragment(call, place) for call, place in zip(listed, places, strict=True)]


def _fragment(call: object, place: int | None) -> ToolFragment:
    if not isinstance(call, dict):
        raise TypeError("the provider sent something else than a tool call")
    entry = cast("dict[str, Any]", call)
    function: object = entry.get("function") or entry
    if not isinstance(function, dict):
        raise TypeError("the provider sent something else than a tool call")
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
    """Return the number of a call; some servers count in other types, or not at all."""
    if isinstance(value, str | float):
        try:
            return int(value)
        except (ValueError, OverflowError):
            return str(value) or None
    return value if isinstance(value, int) else None


def _id(value: object) -> str | None:
    return str(value) if isinstance(value, int) else _text_or_none(value)


def _arguments(value: object) -> str:
    """Return arguments as JSON; some servers send them as they are."""
    return json.dumps(value) if isinstance(value, dict) else _text_or_none(value) or ""


def _text_or_none(value: Any) -> str | None:
    """Return the same value, which a provider may send as anything.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError("the provider sent something else than text")
    return value
