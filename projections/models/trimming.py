"""Trimming a conversation: the search for its longest suffix that fits a budget."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from domain.events import MessageAdded

CountTokens = Callable[[Sequence[MessageAdded]], int]
"""Counts the tokens of messages as a provider does, with all that is sent beside them."""

THREAD_FROM_TOKENS = 16_000
"""From here on, counting takes long enough to block the event loop, so a thread does it."""


class ContextWindow(NamedTuple):
    """The messages of a window: system messages and the end of the dialogue.

    `dropped` is the number of messages of the dialogue before it.
    """

    messages: list[MessageAdded]
    tokens: int
    dropped: int


async def trimmed(messages: Sequence[MessageAdded], max_tokens: int, count: CountTokens) -> ContextWindow:
    """Return `longest_suffix`, without blocking the event loop for long."""
    if sum(message.tokens for message in messages) > THREAD_FROM_TOKENS:
        return await asyncio.to_thread(longest_suffix, messages, max_tokens, count)
    return longest_suffix(messages, max_tokens, count)


def longest_suffix(messages: Sequence[MessageAdded], max_tokens: int, count: CountTokens) -> ContextWindow:
    """Return the longest suffix of the dialogue that fits with all system messages.

    The suffix begins with a user message. If none fits, it is the one from the newest user message. Without any user
    message it begins with any message, or is empty.
    """
    system = [message for message in messages if message.role == "system"]
    dialogue = [message for message in messages if message.role != "system"]
    questions = [place for place, message in enumerate(dialogue) if message.role == "user"]
    starts = questions or range(len(dialogue) + 1)

    @cache
    def suffix(index: int) -> ContextWindow:
        kept = [*system, *dialogue[starts[index] :]]
        return ContextWindow(kept, count(kept), starts[index])

    def fits(index: int) -> bool:
        return suffix(index).tokens <= max_tokens

    # The caller reads few messages that do not fit, so one of the two longest suffixes mostly fits. Both are tried
    # before the search, whose first guess is the middle.
    last = len(starts) - 1
    tried = min(2, last)
    first = next(filter(fits, range(tried)), None)
    return suffix(bisect_left(range(last), True, lo=tried, key=fits) if first is None else first)
