"""The tokens of large texts are counted without blocking the event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from threading import Event
from typing import Any, cast

import pytest

from commands.commands import LARGE_CONTENT_CHARS, ClientMessage, Commands, count_tokens
from commands.tokens import Tokenizer
from domain.content import Content, ContextBlock, TextBlock
from eventlog.image_store import ImageStore
from tests.support.store import PATIENCE_S

Count = Callable[[Tokenizer, Content], Coroutine[Any, Any, int]]

LARGE: list[Content] = [
    (TextBlock(text="x" * (LARGE_CONTENT_CHARS + 1)),),
    tuple(TextBlock(text="x" * 1000) for _ in range(LARGE_CONTENT_CHARS // 1000 + 1)),
    (ContextBlock(data={"words": "x" * LARGE_CONTENT_CHARS}),),
]


class HeldTokenizer(Tokenizer):
    """Counts characters, as soon as the event loop has released it."""

    name = "held"

    def __init__(self) -> None:
        self.released = Event()

    def count(self, text: str) -> int:
        assert self.released.wait(PATIENCE_S), "the event loop stood still"
        return len(text)


async def drafted(tokenizer: Tokenizer, content: Content) -> int:
    nowhere = cast(Any, None)
    commands = Commands(nowhere, tokenizer, ImageStore(nowhere), nowhere)
    return (await commands.draft(ClientMessage("user", content))).tokens


@pytest.mark.parametrize("content", LARGE, ids=["one text", "many texts", "a context"])
@pytest.mark.parametrize("count", [drafted, count_tokens])
async def test_the_event_loop_continues_while_a_large_text_is_counted(count: Count, content: Content) -> None:
    tokenizer = HeldTokenizer()
    asyncio.get_running_loop().call_soon(tokenizer.released.set)
    assert await count(tokenizer, content) > LARGE_CONTENT_CHARS
