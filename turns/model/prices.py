"""Prices and token limits of models, from the table inside the litellm package."""

from decimal import Decimal
from typing import Any, Final

from domain.model_usage import Usage
from turns.model.litellm_library import LiteLLM

_NANO: Final = Decimal("1e-9")


class PriceTable:
    """litellm's table of models."""

    def __init__(self, litellm: LiteLLM) -> None:
        """Read the table of the loaded module."""
        self._litellm = litellm

    def context_window(self, model: str) -> int | None:
        """Return the most input tokens that `model` takes, None if the table has no limit."""
        return self._tokens(model, "max_input_tokens")

    def max_output_tokens(self, model: str) -> int | None:
        """Return the tokens of the longest answer of `model`, None without a limit."""
        return self._tokens(model, "max_output_tokens")

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Return the price of `usage` in US dollars, None for a model without a price.

        It is rounded to the billionth.
        """
        if not self._row(model):
            return None
        try:
            parts = self._litellm.cost_per_token(
                model=model,
                prompt_tokens=usage.input_tokens,
                completion_tokens=usage.output_tokens,
                usage_object=self._usage(usage),
            )
        except Exception:  # noqa: BLE001  litellm raises plain Exception for a model it cannot price
            return None
        return sum((Decimal(part).quantize(_NANO) for part in parts), Decimal(0))

    def _usage(self, usage: Usage) -> Any:
        return self._litellm.Usage(
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            total_tokens=usage.input_tokens + usage.output_tokens,
            prompt_tokens_details={"cached_tokens": usage.cached_input_tokens},
            completion_tokens_details={"reasoning_tokens": usage.reasoning_tokens},
        )

    def _tokens(self, model: str, field: str) -> int | None:
        tokens = self._row(model).get(field)
        return tokens if isinstance(tokens, int) else None

    def _row(self, model: str) -> dict[str, Any]:
        """Return the model's row, empty if there is none."""
        # The table has some models with their provider in front and some without.
        rows = self._litellm.model_cost
        provider, _, name = model.partition("/")
        if model in rows or not name:
            return rows.get(model, {})
        row = rows.get(name, {})
        return row if str(row.get("litellm_provider", "")).startswith(provider) else {}
