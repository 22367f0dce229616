"""The provider rules of a model, found by its name."""

import pytest

from turns.model.provider_rules import provider_rules


@pytest.mark.parametrize(
    ("model", "reasoning"),
    [
        ("deepseek/deepseek-reasoner", "always"),
        ("openrouter/deepseek/deepseek-v4-pro", "always"),
        ("openai/DeepSeek-V3.2", "always"),
        ("openai/kimi-k2-thinking", "loop"),
        ("hosted_vllm/qwen3", "loop"),
        ("gpt-4o", "loop"),
        ("anthropic/claude-sonnet-4-5", "never"),
        ("groq/deepseek-r1-distill-llama-70b", "never"),
        ("vertex_ai/deepseek-ai/deepseek-v3.2-maas", "always"),
        ("vertex_ai/gemini-3-pro", "never"),
        ("anthropic", "loop"),
    ],
)
def test_the_model_name_decides_which_reasoning_is_sent(model: str, reasoning: str) -> None:
    assert provider_rules(model) == (reasoning, model)
