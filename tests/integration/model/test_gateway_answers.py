"""Answers that the gateway reads through litellm's ordinary path and real HTTP."""

import asyncio
from contextlib import aclosing
from decimal import Decimal

import pytest

from tests.support.models.model_calls import KEY, PATIENT, PROMPT, answer_of, error_of
from tests.support.models.model_scripts import Pause, Raw, Reasoning, Script, ToolFragment, usage
from tests.support.models.model_server import ModelServer
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelChunk, ToolDefinition


async def test_chunks_are_exactly_those_of_the_provider(server: ModelServer, gateway: ModelGateway) -> None:
    texts = ["Hel", "lo", " ", "wörld", "\n\n", "🙂", "a b  c"]
    server.script("cut", Script(texts))
    chunks, end = await answer_of(gateway, "cut")
    assert chunks == [ModelChunk("text", text) for text in texts]
    assert end.finish_reason == "stop"


async def test_empty_chunks_are_skipped(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("empty", Script(["", "a", "", "", "b", ""]))
    chunks, _ = await answer_of(gateway, "empty")
    assert [chunk.text for chunk in chunks] == ["a", "b"]


@pytest.mark.parametrize(
    "odd",
    [
        '{"choices": null}',
        '{"choices": []}',
        '{"choices": [{"delta": null}]}',
        '{"choices": [{"index": 0}]}',
        '{"choices": [{"delta": {"content": null, "tool_calls": null}}]}',
        '{"choices": [{"delta": {"content": ""}}], "usage": null}',
    ],
)
async def test_chunks_without_content_are_skipped(server: ModelServer, gateway: ModelGateway, odd: str) -> None:
    server.script("pauser", Script(["Be", Raw(odd), "cause"]))
    chunks, end = await answer_of(gateway, "pauser")
    assert (chunks, end.finish_reason) == ([("text", "Be"), ("text", "cause")], "stop")


async def test_reasoning_is_separate_from_the_answer(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("thinker", Script([Reasoning("Hm"), Reasoning(", yes"), "Yes"]))
    chunks, _ = await answer_of(gateway, "thinker")
    assert chunks == [("reasoning", "Hm"), ("reasoning", ", yes"), ("text", "Yes")]


async def test_a_model_may_repeat_one_chunk_hundreds_of_times(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("parrot", Script(["----"] * 300))
    chunks, _ = await answer_of(gateway, "parrot")
    assert len(chunks) == 300


async def test_a_chunk_of_10_mb_is_complete(server: ModelServer, gateway: ModelGateway) -> None:
    text = "0123456789" * 1_048_576
    server.script("flood", Script(["a", text, "z"]))
    chunks, _ = await answer_of(gateway, "flood")
    assert [len(chunk.text) for chunk in chunks] == [1, 10_485_760, 1]
    assert chunks[1].text == text


async def test_the_request_has_the_form_of_its_provider(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("form", Script())
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = ToolDefinition(name="add", description="Adds.", input_schema=schema)
    await answer_of(gateway, "form", temperature=0.5, max_output_tokens=99, tools=[tool])
    (request,) = server.requests
    function = {"name": "add", "description": "Adds.", "parameters": schema}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "form",
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 99,
        "tools": [{"type": "function", "function": function}],
    }


async def test_a_name_with_a_slash_is_kept(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("some-lab/model-7b", Script())
    await answer_of(gateway, "some-lab/model-7b")
    assert server.requests[0].model == "some-lab/model-7b"


async def test_a_provider_prefix_keeps_its_meaning_and_the_api_base_applies(
    server: ModelServer, gateway: ModelGateway
) -> None:
    server.script("prefixed", Script())
    await answer_of(gateway, "openai/prefixed")
    await answer_of(gateway, "hosted_vllm/prefixed")
    assert [request.model for request in server.requests] == ["prefixed", "prefixed"]


@pytest.mark.parametrize(
    "provider", ["", "openai/", "custom_openai/", "perplexity/", "deepinfra/", "hosted_vllm/", "lm_studio/", "groq/"]
)
async def test_a_server_without_a_key_gets_no_openai_key_from_the_environment(
    provider: str, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.script("local", Script())
    async with aclosing(ModelGateway(api_base=server.url, api_key=None, timeouts=PATIENT)) as keyless:
        await answer_of(keyless, f"{provider}local")
    assert KEY not in str(server.requests[0].headers)


async def test_a_server_gets_the_key_of_the_provider_that_the_models_name_begins_with(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPLEXITYAI_API_KEY", KEY)
    server.script("local", Script())
    async with aclosing(ModelGateway(api_base=server.url, api_key=None, timeouts=PATIENT)) as keyless:
        await answer_of(keyless, "perplexity/local")
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("model", ["no-such-model", "turnlog/other"])
async def test_a_model_without_a_known_provider_is_a_clear_error(model: str) -> None:
    async with aclosing(ModelGateway(api_base=None, api_key=None, timeouts=PATIENT)) as gateway:
        _, error = await error_of(gateway, model)
    assert (error.code, error.detail) == ("model_error", "No provider is known for this model name.")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
    ],
)
async def test_finish_reasons_have_one_vocabulary(
    server: ModelServer, gateway: ModelGateway, word: str, reason: str
) -> None:
    call = [ToolFragment(0, "call_a", "now")] if reason == "tool_use" else []
    server.script("finisher", Script(["a", *call], finish_reason=word))
    _, end = await answer_of(gateway, "finisher")
    assert end.finish_reason == reason


async def test_usage_comes_from_the_provider(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("counted", Script(["a"], usage=usage(120, 30, cached=100, reasoning=20)))
    _, end = await answer_of(gateway, "counted")
    counts = {"input_tokens": 120, "output_tokens": 30, "cached_input_tokens": 100, "reasoning_tokens": 20}
    assert end.usage.model_dump() == {**counts, "cost_usd": None, "estimated": False}


async def test_missing_usage_is_estimated_and_marked(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("uncounted", Script([Reasoning("hello"), " hello", " world"], usage=None))
    _, end = await answer_of(gateway, "uncounted")
    assert end.usage.estimated
    assert (end.usage.input_tokens, end.usage.output_tokens) == (6, 3)


async def test_a_model_with_a_price_has_a_cost(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("gpt-4o", Script(["a"], usage=usage(1000, 100)))
    _, end = await answer_of(gateway, "gpt-4o")
    assert end.usage.cost_usd == Decimal("0.0035")


async def test_context_windows_are_read_from_the_local_table(gateway: ModelGateway) -> None:
    assert await gateway.context_window("gpt-4o") == 128_000
    assert await gateway.context_window("openai/gpt-4o") == 128_000
    assert await gateway.context_window("no-such-model") is None


async def test_an_answer_that_is_read_through_litellm_is_the_same(server: ModelServer, gateway: ModelGateway) -> None:
    steps = [Reasoning("Hm"), "Let", " me", "", ToolFragment(0, "a", "add", '{"a":'), ToolFragment(0, arguments="1}")]
    server.script("same", Script(steps, finish_reason="tool_calls", usage=usage(120, 30, cached=100, reasoning=20)))
    direct = await answer_of(gateway, "same")
    assert await answer_of(gateway, "hosted_vllm/same") == direct
    assert len(direct[0]) == 3


async def test_many_answers_stream_concurrently(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("many", Script(["a", Pause(0.05), "b"]))
    answers = await asyncio.gather(*(answer_of(gateway, "many") for _ in range(20)))
    assert all([chunk.text for chunk in chunks] == ["a", "b"] for chunks, _ in answers)
