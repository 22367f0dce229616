"""Rules for the output that a model gets back, by the provider in its name."""

from typing import Literal, NamedTuple

_REFUSE_REASONING = frozenset({"cerebras", "groq", "mistral"})
_TAKE_REASONING_IN_ANOTHER_FORM = frozenset({"anthropic", "azure", "bedrock", "cohere", "gemini", "vertex_ai"})


class ProviderRules(NamedTuple):
    """The reasoning and the extra content of earlier answers that go back to a model.

    `reasoning` goes back with answers that called tools: `never`, in the open tool `loop` only, or `always`. The extra
    content of a call goes back to the `model` that sent it, or to any model if it is None.
    """

    reasoning: Literal["never", "loop", "always"] = "loop"
    model: str | None = None


def provider_rules(model: str) -> ProviderRules:
    """Return the rules for `model`."""
    # OpenAI needs no rule of its own: it never sends reasoning, so there is none to send back.
    provider, slash, _ = model.partition("/")
    if slash and provider in _REFUSE_REASONING:
        return ProviderRules("never", model)
    # DeepSeek answers 400 if an answer that called tools comes without its reasoning, also in later turns:
    # https://api-docs.deepseek.com/guides/thinking_mode. Up to V3.2 it ignored the reasoning of earlier turns.
    if "deepseek" in model.lower():
        return ProviderRules("always", model)
    return ProviderRules("never" if slash and provider in _TAKE_REASONING_IN_ANOTHER_FORM else "loop", model)
