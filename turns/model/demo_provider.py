"""The demo model as a litellm provider, a `CustomLLM`.

This module imports litellm at the top, so `litellm_library` imports it in a thread.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from litellm.llms.custom_llm import CustomLLM

from commands.tokens import Tokenizer
from turns.model.demo_model import DemoChunk, DemoModel


class DemoProvider(CustomLLM):
    """Passes calls to the demo model. `tokenizer` counts its usage."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._model = DemoModel(tokenizer)

    async def astreaming(  # pyright: ignore[reportIncompatibleMethodOverride]  litellm does not await the iterator
        self, *_: Any, messages: Sequence[dict[str, Any]], **__: Any
    ) -> AsyncIterator[DemoChunk]:
        """Stream the answer to `messages`. The other arguments of litellm are not needed."""
        async for chunk in self._model.answer(messages):
            yield chunk
