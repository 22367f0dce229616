"""The built-in demo model `turnlog/demo`, which answers the same every time and needs no key."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypedDict, cast

from commands.tokens import Tokenizer

PROVIDER: Final = "turnlog"
MODEL: Final = "turnlog/demo"

DELAY_S = 0.01
"""The pause before each word, which makes the streaming visible."""

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
    """Answers in litellm's words; `turns.model.demo_provider` makes a provider for litellm of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """The tokenizer counts the usage."""
        self._tokenizer = tokenizer

    async def answer(self, messages: Sequence[dict[str, Any]]) -> AsyncIterator[DemoChunk]:
        """Stream the answer word by word, then a last chunk with the usage."""
        said = answer_to(messages)
        for word in re.findall(r"\S+\s*", said):
            await asyncio.sleep(DELAY_S)
            yield _chunk(word)
        yield _chunk("", await asyncio.to_thread(self._usage, messages, said))

    def _usage(self, messages: Sequence[dict[str, Any]], answer: str) -> DemoUsage:
        asked = sum(self._tokenizer.count(_text(message)) for message in messages)
        answered = self._tokenizer.count(answer)
        return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def answer_to(messages: Sequence[dict[str, Any]]) -> str:
    """What the demo model says to these messages."""
    last = next((_text(message) for message in reversed(messages) if message.get("role") == "user"), "")
    said = " ".join(last.split())
    beginning = said if len(said) <= _QUOTE_CHARS else said[: _QUOTE_CHARS - 1] + "…"
    return _ANSWER.format(quote=f"You said: “{beginning}”." if said else "You said nothing.")


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
