"""The little of litellm that is used, as types; litellm is only partly typed and must not be imported for them."""

from collections.abc import AsyncIterator
from typing import Any, Protocol


class LiteLLMStream(Protocol):
    """litellm's `CustomStreamWrapper`."""

    completion_stream: Any
    received_finish_reason: str | None
    intermittent_finish_reason: str | None
    chunks: list[Any]

    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def __anext__(self) -> Any: ...
    async def aclose(self) -> None: ...


class LiteLLM(Protocol):
    """The litellm module."""

    model_cost: dict[str, dict[str, Any]]
    provider_list: list[str]
    custom_provider_map: list[Any]
    Usage: Any
    aclient_session: Any

    async def acompletion(self, **arguments: Any) -> LiteLLMStream | None: ...
    def get_llm_provider(self, model: str) -> tuple[str, str, str | None, str | None]: ...
    def cost_per_token(self, **arguments: Any) -> tuple[float, float]: ...
