"""Token counts of windows, compared with litellm's counter and OpenAI's recipe."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commands.tokens import Tokenizer
from domain.content import (
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.events import MessageAdded
from domain.tools import ToolDefinition
from projections.models.trimming import ContextWindow, longest_suffix
from tests.support.histories.free_histories import free_histories, message
from tests.support.models.openai_tokens import openai_tokens
from turns.model.gateway import ModelGateway
from turns.model.messages import model_messages
from turns.model.sent_context import TextCounter, TokenCounter, sent_tokens
from turns.model.tool_declarations import declarations

TOKENIZER = Tokenizer()
Counter = Callable[..., int]
Tools = Sequence[ToolDefinition]


@pytest.fixture
async def counted(gateway: ModelGateway, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Return litellm's counter for GPT-4o, which Turnlog disables."""
    await gateway.warm_up()
    litellm: Any = importlib.import_module("litellm")
    monkeypatch.setattr(litellm, "disable_token_counter", False)

    def count(messages: list[dict[str, Any]], tools: Tools = ()) -> int:
        defined = [{"type": "function", "function": _function(tool)} for tool in tools]
        return litellm.token_counter(model="gpt-4o", messages=messages, tools=defined or None) if messages else 0

    return count


def _function(tool: ToolDefinition) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}


# Texts of any length, with characters that tokenizers join and split at edges.
WORDS = st.one_of(
    st.sampled_from(["x", "Yes.", "No!", "\n", "...", "  a", "b  ", "漢字", "👩‍🚀", "<|endoftext|>", "don't", "12345"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    st.integers(1, 200).map(lambda n: "The quick brown fox. " * n),
)
TEXT = WORDS.map(lambda words: TextBlock(text=words))
CALL_IDS = [f"call_{n:024x}" for n in (0x5F3A, 0xD0E1F2A3, 0xABCDEF0123456789)]
NAMES = ["get_weather", "search", "run_sql_query_on_warehouse"]
CALL = st.builds(
    ToolUseBlock,
    id=st.sampled_from(CALL_IDS),
    name=st.sampled_from(NAMES),
    input=st.dictionaries(st.text("abc", max_size=3), WORDS, max_size=3),
)
RESULT = st.builds(ToolResultBlock, tool_use_id=st.sampled_from(CALL_IDS), content=WORDS, is_error=st.booleans())
REASONING = WORDS.map(lambda words: ReasoningBlock(text=words))
SAID = st.one_of(
    st.lists(TEXT, max_size=2).map(lambda blocks: message("user", *blocks)),
    st.builds(lambda text, page: message("user", text, ContextBlock(data={"page": page})), TEXT, WORDS),
    st.lists(TEXT | REASONING, max_size=3).map(lambda blocks: message("assistant", *blocks)),
    st.lists(TEXT | REASONING | CALL, max_size=4).map(lambda blocks: message("assistant", *blocks)),
    st.lists(RESULT, max_size=3).map(lambda blocks: message("tool", *blocks)),
    st.lists(TEXT, max_size=1).map(lambda blocks: message("system", *blocks)),
)
HISTORIES = st.lists(SAID, max_size=30)
LEAF = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "The unit."},
        {"type": "integer", "description": "How many."},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {},
    ]
)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)[:1]}


SCHEMA = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items, "description": "Some."}),
        st.dictionaries(st.sampled_from(["city", "unit", "limit", "filter"]), inner, max_size=3).map(_object),
    ),
    max_leaves=6,
)
PARAMETERS = st.dictionaries(st.sampled_from(["city", "unit", "limit", "filter"]), SCHEMA, max_size=4).map(_object)
TOOL = st.builds(
    ToolDefinition,
    name=st.sampled_from(NAMES),
    description=st.sampled_from(["", "Reads the weather of a city, now or later."]),
    input_schema=PARAMETERS,
)
TOOLS = st.lists(TOOL, max_size=3)


LONG_REASONING = [
    message("assistant", ToolUseBlock(id=CALL_IDS[0], name=NAMES[0], input={})),
    message("assistant", TextBlock(text="x"), ReasoningBlock(text="The quick brown fox. " * 50)),
]


def ours(messages: list[dict[str, Any]], tools: Tools = ()) -> int:
    return sent_tokens(messages, tools, TextCounter(TOKENIZER))


def trimmed(history: list[MessageAdded], budget: int, tools: Tools) -> ContextWindow:
    return longest_suffix(history, budget, TokenCounter(tools).count)


def with_one_more_question(history: list[MessageAdded], before: int) -> list[dict[str, Any]]:
    """Return the window with one more question."""
    others = [one for one in history if one.role != "system"]
    earlier = [place for place, one in enumerate(others[:before]) if one.role == "user"]
    system = [one for one in history if one.role == "system"]
    return model_messages([*system, *others[earlier[-1] :]]) if earlier else []


@settings(max_examples=50, database=None)
@given(free_histories(), TOOLS, st.sampled_from(["Be brief.", "漢字 " * 300]))
def test_a_system_prompt_comes_first_and_is_counted(history: list[MessageAdded], tools: Tools, prompt: str) -> None:
    counter = TokenCounter(tools, system_prompt=prompt)
    sent = counter.sent_messages(history)
    assert sent == [{"role": "system", "content": prompt}, *model_messages(history)]
    assert counter.count(history) == ours(sent, tools)
    assert TokenCounter(tools, system_prompt=" ").sent_messages(history) == model_messages(history)


async def test_texts_and_tools_count_as_in_litellm(counted: Counter) -> None:
    @settings(max_examples=100, database=None)
    @given(st.lists(SAID.filter(lambda one: one.role != "tool"), max_size=8), TOOLS)
    @example(LONG_REASONING, [])
    def check(history: list[MessageAdded], tools: Tools) -> None:
        messages = [one for one in model_messages(history) if one["role"] != "tool" and "tool_calls" not in one]
        sent = [one.get(key) for one in messages for key in ("content", "reasoning_content")]
        slack = 2 * (len(declarations(tools) + "".join(map(str, sent))) // 1024)
        assert counted(messages, tools) <= ours(messages, tools) <= counted(messages, tools) + slack
        assert ours(messages) == openai_tokens(messages)

    check()


async def test_a_window_fills_its_budget_without_exceeding_it(counted: Counter) -> None:
    @settings(max_examples=150, database=None)
    @given(HISTORIES, st.integers(0, 6000), TOOLS)
    @example([message("user", TextBlock(text="x")) for _ in range(200)], 100, [])
    @example([message(role, TextBlock(text="x")) for role in ("user", "assistant") * 100], 100, [])
    def check(history: list[MessageAdded], budget: int, tools: Tools) -> None:
        window = trimmed(history, budget, tools)
        questions = [one for one in history if one.role == "user"]
        if window.tokens <= budget:
            assert counted(model_messages(window.messages), tools) <= budget
        elif questions:  # the newest question is sent even if it does not fit
            assert window.messages == trimmed(history, 0, tools).messages
        if more := with_one_more_question(history, window.dropped):
            assert counted(more, tools) > 0.95 * budget

    check()


async def test_the_count_of_any_conversation_is_at_least_litellms(counted: Counter) -> None:
    @settings(max_examples=150, database=None)
    @given(free_histories(), TOOLS)
    def check(history: list[MessageAdded], tools: Tools) -> None:
        messages = model_messages(history)
        assert ours(messages, tools) >= counted(messages, tools)

    check()


async def test_an_image_counts_more_than_in_litellm(counted: Counter) -> None:
    messages = model_messages([message("user", ImageBlock(media_type="image/png", data="iVBORw0KGgo="))])
    assert ours(messages) == 3 + 4 + 1600 > counted(messages)


KEYS = st.sampled_from(
    ["type", "properties", "items", "enum", "required", "description", "anyOf", "$defs", "object", "array"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | KEYS | st.text("ab ", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, database=None)
@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_an_invalid_schema_is_counted(schema: dict[str, Any]) -> None:
    tool = ToolDefinition(name="f", input_schema=schema)
    assert ours([{"role": "user", "content": "x"}], [tool]) > ours([{"role": "user", "content": "x"}])


def test_repeated_types_are_written_once() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        schema = {"type": ["object", "object", "array"], "properties": {"a": schema}}
    tool = ToolDefinition(name="f", input_schema={"properties": {"a": schema}})
    assert ours([{"role": "user", "content": "x"}], [tool]) < 2000


def text_tokens(history: list[MessageAdded]) -> int:
    count = TextCounter(TOKENIZER)
    count.trust(history)
    return count("two words")


def test_the_recorded_count_of_a_text_is_used_for_the_same_encoding() -> None:
    history = [message("user", TextBlock(text="two words"))]
    trusted = [history[0].model_copy(update={"tokens": 99, "encoding": "o200k_base"})]
    assert text_tokens(history) == 2
    assert text_tokens(trusted) == 99
