"""Tokens and cost of model calls."""

from decimal import Decimal

from pydantic import Field

from domain.values import Frozen


class Usage(Frozen):
    """Tokens and cost of a model call or of a turn, in OpenTelemetry GenAI terms."""

    input_tokens: int = Field(ge=0, description="Tokens sent to the model. Model, or estimated.")
    output_tokens: int = Field(ge=0, description="Tokens the model produced, reasoning included. Model, or estimated.")
    cached_input_tokens: int = Field(
        default=0, ge=0, description="Input tokens the provider read from its cache. Model."
    )
    reasoning_tokens: int = Field(default=0, ge=0, description="Output tokens spent on reasoning. Model.")
    cost_usd: Decimal | None = Field(
        default=None, description="US dollars by litellm's price table, or None without a price."
    )
    estimated: bool = Field(default=False, description="True if the server counted because the provider sent no usage.")

    def plus(self, other: "Usage | None") -> "Usage":
        """Return the sum of both. The cost is None if one of them has none."""
        if other is None:
            return self
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost_usd=None if None in costs else sum(filter(None, costs), Decimal()),
            estimated=self.estimated or other.estimated,
        )
