"""What each provider wants back of what its models say for themselves, by the model's litellm name."""

from projections.models.model_messages import ProviderRules

_REFUSE_REASONING = frozenset({"cerebras", "groq", "mistral"})
_TAKE_ANOTHER_FORM = frozenset({"anthropic", "azure", "bedrock", "cohere", "gemini", "vertex_ai"})


def provider_rules(model: str) -> ProviderRules:
    """Return what goes back to `model`.

    OpenAI has no rule of its own: it never shows a model's reasoning, so there is none to go back to it.
    """
    provider, slash, _ = model.partition("/")
    if slash and provider in _REFUSE_REASONING:
        return ProviderRules("never", model)
    # DeepSeek answers 400 where an answer that called tools comes without its reasoning, also in later turns:
    # https://api-docs.deepseek.com/guides/thinking_mode. Up to V3.2 it ignored that of earlier turns.
    if "deepseek" in model.lower():
        return ProviderRules("always", model)
    return ProviderRules("never" if slash and provider in _TAKE_ANOTHER_FORM else "loop", model)
