"""The usage of an answer: reported by the provider, or else estimated."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from commands.tokens import Tokenizer
from domain.model_usage import Usage
from turns.model.gateway_types import ModelRequest

MAX_COUNT = 2**31
"""A count from here on is a provider's mistake. The API refuses it from clients, too."""

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
"""Our fields, and the paths at which litellm, OpenAI and compatible servers report them."""


def reported_usage(chunks: Iterable[object]) -> Usage | None:
    """Return the usage in a provider's chunks, None without any.

    The last count that is not 0 is taken.
    """
    counts = dict.fromkeys(_FIELDS, 0)
    for chunk in chunks:
        if (usage := _at(chunk, ("usage",))) is not None:
            counts |= {name: count for name, paths in _FIELDS.items() if (count := _count(usage, paths))}
            counts["output_tokens"] += _reasoning_apart(usage, counts)
    return Usage.model_validate(counts) if counts["input_tokens"] or counts["output_tokens"] else None


def estimated_usage(tokenizer: Tokenizer, request: ModelRequest, answer: str) -> Usage:
    """Return counts of the request and the answer.

    The few tokens around each message are left out.
    """
    tools = "".join(tool.model_dump_json() for tool in request.tools)
    sent = sum(tokenizer.count(_text(message)) for message in request.messages) + tokenizer.count(tools)
    counts = {"input_tokens": sent, "output_tokens": tokenizer.count(answer), "estimated": True}
    return Usage.model_validate(counts)


def _reasoning_apart(usage: object, counts: Mapping[str, int]) -> int:
    """Return the reasoning tokens that a total counts beside the output, else 0."""
    reasoning = counts["reasoning_tokens"]
    total = _count(usage, (("total_tokens",),))
    return reasoning if total == counts["input_tokens"] + counts["output_tokens"] + reasoning else 0


def _count(usage: object, paths: Iterable[tuple[str, ...]]) -> int:
    values = (_at(usage, path) for path in paths)
    return next((value for value in values if isinstance(value, int) and 0 < value < MAX_COUNT), 0)


def _at(value: object, path: tuple[str, ...]) -> object:
    for name in path:
        value = (
            cast("Mapping[str, object]", value).get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        )
    return value


def _text(message: Mapping[str, Any]) -> str:
    """Return the text and the tool calls of a message.

    Images are left out: each provider counts them its own way.
    """
    content: object = message.get("content")
    parts = cast("list[Mapping[str, Any]]", content) if isinstance(content, list) else []
    texts = [content] if isinstance(content, str) else [str(part["text"]) for part in parts if "text" in part]
    calls = message.get("tool_calls")
    return "".join([*texts, json.dumps(calls) if calls else ""])
