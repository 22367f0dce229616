"""Trims a conversation to a budget of tokens: the search for its longest end that fits."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from domain.events import MessageAdded

CountTokens = Callable[[Sequence[MessageAdded]], int]
"""Returns the tokens that a provider counts for these messages, with all that is sent beside them."""

LARGE_WINDOW_TOKENS = 16_000


class TrimmedMessages(NamedTuple):
    """The messages that are kept, their tokens, and how many messages before them are dropped.

    System messages are always kept.
    """

    messages: list[MessageAdded]
    tokens: int
    dropped: int


async def trimmed(messages: Sequence[MessageAdded], max_tokens: int, count: CountTokens) -> TrimmedMessages:
    """Return the longest end that fits, without blocking the event loop for long."""
    if sum(message.tokens for message in messages) > LARGE_WINDOW_TOKENS:
        return await asyncio.to_thread(longest_end, messages, max_tokens, count)
    return longest_end(messages, max_tokens, count)


def longest_end(messages: Sequence[MessageAdded], max_tokens: int, count: CountTokens) -> TrimmedMessages:
    """Return the longest end of `messages` that fits into `max_tokens`, with all system messages.

    It begins with a user message. If none fits, it begins with the newest user message. Without any user message it
    begins with any message, or is empty.
    """
    system = [message for message in messages if message.role == "system"]
    dialogue = [message for message in messages if message.role != "system"]
    questions = [place for place, message in enumerate(dialogue) if message.role == "user"]
    starts = questions or range(len(dialogue) + 1)

    @cache
    def end(index: int) -> TrimmedMessages:
        kept = [*system, *dialogue[starts[index] :]]
        return TrimmedMessages(kept, count(kept), starts[index])

    def fits(index: int) -> bool:
        return end(index).tokens <= max_tokens

    # Little more is read than fits, so the first two are tried before the search.
    last = len(starts) - 1
    tried = min(2, last)
    first = next(filter(fits, range(tried)), None)
    return end(bisect_left(range(last), True, lo=tried, key=fits) if first is None else first)
