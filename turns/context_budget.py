"""The token budget of a context: the most tokens that a model is sent."""

from turns.model.gateway import ModelGateway

DEFAULT_CONTEXT_TOKENS = 32_000
"""The budget where neither the client nor the settings nor litellm's table of models gives one."""


class ContextBudget:
    """The budget that the server gives a model.

    A client may give another one with its turn. `max_context_tokens` is the setting of this name. It holds for every
    model; None takes each model's own limit.
    """

    def __init__(self, gateway: ModelGateway, max_context_tokens: int | None) -> None:
        self._gateway = gateway
        self._max_context_tokens = max_context_tokens

    async def tokens(self, model: str, max_output_tokens: int | None = None) -> int:
        """Return how many tokens `model` is sent at most.

        `max_output_tokens` is the longest answer that the client allows.

        Raises:
            ModelError: litellm could not be loaded.
        """
        if self._max_context_tokens:
            return self._max_context_tokens
        limit = await self._gateway.context_window(model)
        if limit is None:
            return DEFAULT_CONTEXT_TOKENS
        # For most models input and output share one limit, but litellm's table does not say for which. So the longest
        # answer is left free, but at most half of the limit.
        answer = max_output_tokens or await self._gateway.max_output_tokens(model) or 0
        return limit - min(answer, limit // 2)
