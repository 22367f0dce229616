"""What an answer used: as the provider reported it, or estimated where it reported nothing."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from commands.tokens import Tokenizer
from domain.usage import Usage
from turns.model.call import ModelRequest

MAX_COUNT = 2**31
"""From here on a count is a provider's mistake; clients that count themselves are refused it too."""

_FIELDS = {
    "input_tokens": (("prompt_tokens",), ("input_tokens",)),
    "output_tokens": (("completion_tokens",), ("output_tokens",)),
    "cached_input_tokens": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("prompt_cache_hit_tokens",),
        ("cached_tokens",),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("reasoning_tokens",),
    ),
}
"""Our words and where litellm, OpenAI and servers of its kind keep them."""


def reported_usage(chunks: Iterable[object]) -> Usage | None:
    """The usage in a provider's chunks, or None; of several figures the last that is not 0 counts."""
    counts = dict.fromkeys(_FIELDS, 0)
    for chunk in chunks:
        if (usage := _at(chunk, ("usage",))) is not None:
            counts |= {name: count for name, paths in _FIELDS.items() if (count := _count(usage, paths))}
            counts["output_tokens"] += _reasoning_apart(usage, counts)
    return Usage.model_validate(counts) if counts["input_tokens"] or counts["output_tokens"] else None


def estimated_usage(tokenizer: Tokenizer, request: ModelRequest, answer: str) -> Usage:
    """A count of what was sent and said, without the few tokens by which a provider frames messages."""
    tools = "".join(tool.model_dump_json() for tool in request.tools)
    asked = sum(tokenizer.count(_text(message)) for message in request.messages) + tokenizer.count(tools)
    counts = {"input_tokens": asked, "output_tokens": tokenizer.count(answer), "estimated": True}
    return Usage.model_validate(counts)


def _reasoning_apart(usage: object, counts: Mapping[str, int]) -> int:
    """Return the tokens of reasoning that a provider counts beside the output, by its own total."""
    reasoning = counts["reasoning_tokens"]
    total = _count(usage, (("total_tokens",),))
    return reasoning if total == counts["input_tokens"] + counts["output_tokens"] + reasoning else 0


def _count(usage: object, paths: Iterable[tuple[str, ...]]) -> int:
    values = (_at(usage, path) for path in paths)
    return next((value for value in values if isinstance(value, int) and 0 < value < MAX_COUNT), 0)


def _at(thing: object, path: tuple[str, ...]) -> object:
    for name in path:
        thing = (
            cast("Mapping[str, object]", thing).get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
        )
    return thing


def _text(message: Mapping[str, Any]) -> str:
    """What of a message costs tokens as text; images do not, as each provider counts them its own way."""
    content: object = message.get("content")
    parts = cast("list[Mapping[str, Any]]", content) if isinstance(content, list) else []
    texts = [content] if isinstance(content, str) else [str(part["text"]) for part in parts if "text" in part]
    calls = message.get("tool_calls")
    return "".join([*texts, json.dumps(calls) if calls else ""])
