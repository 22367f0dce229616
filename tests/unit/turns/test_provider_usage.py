"""The usage of an answer: as providers report it, and estimated."""

from types import SimpleNamespace
from typing import Any

import pytest

from domain.model_usage import Usage
from domain.tools import ToolDefinition
from tests.support.store import WordTokenizer
from turns.model.gateway_types import ModelRequest
from turns.model.provider_usage import MAX_COUNT, estimated_usage, reported_usage


def reported(*usages: dict[str, Any] | None) -> dict[str, int] | None:
    """Return the counts that are not 0, from chunks with these usages."""
    found = reported_usage({"usage": usage} for usage in usages)
    return found and {name: count for name, count in found.model_dump(exclude_defaults=True).items() if count}


@pytest.mark.parametrize(
    "usage",
    [
        {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        {
            "input_tokens": 9,
            "output_tokens": 5,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 2},
        },
        {"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4, "reasoning_tokens": 2},
        {"prompt_tokens": 9, "completion_tokens": 5, "cached_tokens": 4, "reasoning_tokens": 2},
    ],
)
def test_counts_are_found_under_every_name(usage: dict[str, Any]) -> None:
    counts = {"input_tokens": 9, "output_tokens": 5, "cached_input_tokens": 4, "reasoning_tokens": 2}
    assert reported(usage) == counts


def test_a_chunk_may_be_an_object() -> None:
    chunk = SimpleNamespace(usage=SimpleNamespace(prompt_tokens=9, completion_tokens=5))
    assert reported_usage([chunk]) == Usage(input_tokens=9, output_tokens=5)


def test_the_last_count_that_is_not_0_is_taken() -> None:
    usages = [{"prompt_tokens": 9, "completion_tokens": 1}, None, {"prompt_tokens": 0, "completion_tokens": 5}]
    assert reported(*usages) == {"input_tokens": 9, "output_tokens": 5}


def test_reasoning_that_the_total_counts_beside_the_output_is_part_of_the_output() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 2}
    assert reported({**usage, "total_tokens": 16}) == {"input_tokens": 9, "output_tokens": 7, "reasoning_tokens": 2}
    assert reported({**usage, "total_tokens": 14}) == {"input_tokens": 9, "output_tokens": 5, "reasoning_tokens": 2}


@pytest.mark.parametrize("count", [0, -1, MAX_COUNT, "9", 9.5, None])
def test_a_count_that_cannot_be_right_is_ignored(count: object) -> None:
    assert reported({"prompt_tokens": count, "completion_tokens": 5}) == {"output_tokens": 5}
    assert reported({"prompt_tokens": count}) is None


def test_no_report_is_no_usage() -> None:
    assert reported() is None
    assert reported(None, {}) is None


def test_an_estimate_counts_texts_calls_tools_and_the_answer() -> None:
    messages = [
        {"role": "user", "content": "two words"},
        {"role": "user", "content": [{"type": "text", "text": " three more words"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
    ]
    tool = ToolDefinition(name="look", description="One two", input_schema={})
    plain = estimated_usage(WordTokenizer(), ModelRequest(model="m", messages=messages), "an answer here")
    assert (plain.output_tokens, plain.estimated) == (3, True)
    # Each message is counted by itself, and the call is JSON: `[{"id":` and `"a"}]`.
    assert plain.input_tokens == 2 + 3 + 2
    tools = estimated_usage(WordTokenizer(), ModelRequest(model="m", messages=messages, tools=(tool,)), "")
    assert tools.input_tokens > plain.input_tokens
