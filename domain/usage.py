"""What one model call used."""

from decimal import Decimal

from pydantic import Field

from domain.values import Frozen


class Usage(Frozen):
    """Tokens and cost of one model call, in OpenTelemetry GenAI terms."""

    input_tokens: int = Field(ge=0, description="Tokens sent to the model. Model, or estimated.")
    output_tokens: int = Field(ge=0, description="Tokens the model produced, reasoning included. Model, or estimated.")
    cached_input_tokens: int = Field(
        default=0, ge=0, description="Input tokens the provider read from its cache. Model."
    )
    reasoning_tokens: int = Field(default=0, ge=0, description="Output tokens spent on reasoning. Model.")
    cost_usd: Decimal | None = Field(
        default=None, description="US dollars by litellm's price table; None without a price."
    )
    estimated: bool = Field(
        default=False, description="True where the server counted because the provider sent no usage."
    )
