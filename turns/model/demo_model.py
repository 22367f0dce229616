"""The built-in demo model `turnlog/demo`: deterministic answers without a key."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypedDict, cast

from commands.tokens import Tokenizer

PROVIDER: Final = "turnlog"
MODEL: Final = "turnlog/demo"

DELAY_S = 0.01
"""The pause before each word. It makes the streaming visible."""

_QUOTE_CHARS = 80
_ANSWER = (
    "This is Turnlog's built-in demo model: it needs no key and always answers like this. {quote} "
    "To talk to a real model, set TURNLOG_MODEL to a litellm name such as gpt-4o "
    "or ollama/llama3, and the key that its provider asks for."
)


class DemoUsage(TypedDict):
    """Token counts in litellm's words."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class DemoChunk(TypedDict):
    """litellm's `GenericStreamingChunk`."""

    text: str
    is_finished: bool
    finish_reason: str
    usage: DemoUsage | None
    index: int
    tool_use: None


class DemoModel:
    """Answers in litellm's chunks, with usage that `tokenizer` counts.

    `demo_provider` registers it with litellm.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    async def answer(self, messages: Sequence[dict[str, Any]]) -> AsyncIterator[DemoChunk]:
        """Stream the answer word by word, then a last chunk with the usage."""
        answer = _answer_to(messages)
        for word in re.findall(r"\S+\s*", answer):
            await asyncio.sleep(DELAY_S)
            yield _chunk(word)
        yield _chunk("", await asyncio.to_thread(self._usage, messages, answer))

    def _usage(self, messages: Sequence[dict[str, Any]], answer: str) -> DemoUsage:
        prompt = sum(self._tokenizer.count(_text(message)) for message in messages)
        completion = self._tokenizer.count(answer)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _answer_to(messages: Sequence[dict[str, Any]]) -> str:
    """Return the answer, which quotes the beginning of the last user message."""
    last = next((_text(message) for message in reversed(messages) if message.get("role") == "user"), "")
    words = " ".join(last.split())
    beginning = words if len(words) <= _QUOTE_CHARS else words[: _QUOTE_CHARS - 1] + "…"
    return _ANSWER.format(quote=f"You said: “{beginning}”." if words else "You said nothing.")


def _text(message: dict[str, Any]) -> str:
    content: object = message.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[dict[str, Any]]", content) if isinstance(content, list) else []
    return " ".join(str(part["text"]) for part in parts if "text" in part)


def _chunk(text: str, usage: DemoUsage | None = None) -> DemoChunk:
    finished = usage is not None
    return {
        "text": text,
        "is_finished": finished,
        "finish_reason": "stop" if finished else "",
        "usage": usage,
        "index": 0,
        "tool_use": None,
    }
