"""What each provider wants back of what its models say for themselves, by the model's litellm name."""

from typing import Literal, NamedTuple

_REFUSE_REASONING = frozenset({"cerebras", "groq", "mistral"})
_TAKE_ANOTHER_FORM = frozenset({"anthropic", "azure", "bedrock", "cohere", "gemini", "vertex_ai"})


class ProviderRules(NamedTuple):
    """What goes back to a model of that which models say for themselves.

    `reasoning` goes back with answers that called tools: `never`, in the tool `loop` that is still open, or `always`.
    The extra content of a call goes back to the `model` that sent it; None: to any.
    """

    reasoning: Literal["never", "loop", "always"] = "loop"
    model: str | None = None


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
