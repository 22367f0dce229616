"""What goes back to a model, by its name."""

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
def test_a_provider_gets_the_reasoning_that_it_wants(model: str, reasoning: str) -> None:
    assert provider_rules(model) == (reasoning, model)
