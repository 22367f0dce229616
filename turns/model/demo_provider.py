"""The demo model as litellm takes providers: a `CustomLLM`. Imported together with litellm, in a thread."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from litellm.llms.custom_llm import CustomLLM

from commands.tokens import Tokenizer
from turns.model.demo_model import DemoChunk, DemoModel


class DemoProvider(CustomLLM):
    """Answers as the demo model does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """The tokenizer counts the usage."""
        super().__init__()
        self._model = DemoModel(tokenizer)

    async def astreaming(  # pyright: ignore[reportIncompatibleMethodOverride]  litellm awaits no iterator
        self, *_: Any, messages: Sequence[dict[str, Any]], **__: Any
    ) -> AsyncIterator[DemoChunk]:
        """Stream the answer; litellm passes much else that is not needed."""
        async for chunk in self._model.answer(messages):
            yield chunk
