"""The longest end of a conversation that a model can be sent, counted as it is sent."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from commands.tokens import Tokenizer
from domain.events import MessageAdded
from domain.tools import ToolDefinition
from projections.models.model_messages import ProviderRules, model_messages
from projections.models.sent_tokens import sent_tokens, text_counter

LARGE_WINDOW_TOKENS = 16_000


class Asked(NamedTuple):
    """What decides over a window: its budget, the tools that are sent with it, and the provider's rules."""

    max_tokens: int
    tools: Sequence[ToolDefinition] = ()
    rules: ProviderRules = ProviderRules()


class Window(NamedTuple):
    """Messages in OpenAI's chat form, their tokens, and how many of those that were given are `before` them.

    System messages are never before them.
    """

    messages: list[dict[str, Any]]
    tokens: int
    before: int


async def find_longest_window(said: Sequence[MessageAdded], asked: Asked, tokenizer: Tokenizer) -> Window:
    """Return the longest window, found in a thread where that may take long, so that the event loop goes on."""
    # The definitions of tools may be megabytes, and only counting tells.
    if asked.tools or sum(message.tokens for message in said) > LARGE_WINDOW_TOKENS:
        return await asyncio.to_thread(longest_window, said, asked, tokenizer)
    return longest_window(said, asked, tokenizer)


def longest_window(said: Sequence[MessageAdded], asked: Asked, tokenizer: Tokenizer) -> Window:
    """Return the longest end of what was `said` that fits, with all system messages.

    It begins with a user message. Where none fits it begins with the newest one. Without any user message it begins
    with any message, or is empty.
    """
    talk = [message for message in said if message.role != "system"]
    questions = [place for place, message in enumerate(talk) if message.role == "user"]
    starts = questions or range(len(talk) + 1)
    count = text_counter(tokenizer, said)

    @cache
    def window(index: int) -> Window:
        messages = model_messages(sent_of(said, starts[index]), asked.rules)
        return Window(messages, sent_tokens(messages, asked.tools, count), starts[index])

    def fits(index: int) -> bool:
        return window(index).tokens <= asked.max_tokens

    # Little more is read than fits, so the first two are tried before the search.
    last = len(starts) - 1
    tried = min(2, last)
    first = next(filter(fits, range(tried)), None)
    return window(bisect_left(range(last), True, lo=tried, key=fits) if first is None else first)


def sent_of(said: Sequence[MessageAdded], before: int) -> list[MessageAdded]:
    """Return all system messages and the others but the first few."""
    talk = [message for message in said if message.role != "system"]
    return [*(message for message in said if message.role == "system"), *talk[before:]]
