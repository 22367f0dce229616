"""The built-in demo model, through the same litellm call as any other."""

from contextlib import aclosing
from time import perf_counter

import pytest

from tests.support.model_calls import PROMPT, QUICK, answer_of, request_to
from turns import demo
from turns.gateway import ModelGateway
from turns.model_call import ModelChunk, ModelRequest


async def test_the_demo_model_answers_without_a_key_or_a_server_and_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, "DELAY_S", 0)
    async with aclosing(ModelGateway(api_base=None, api_key=None, timeouts=QUICK)) as gateway:
        first, end = await answer_of(gateway, "turnlog/demo")
        second, _ = await answer_of(gateway, "turnlog/demo")
    text = "".join(chunk.text for chunk in first)
    assert first == second
    assert len(first) > 20
    assert "demo model" in text
    assert PROMPT in text
    assert "TURNLOG_MODEL" in text
    assert (end.finish_reason, end.usage.estimated) == ("stop", False)
    assert end.usage.input_tokens > 0
    assert end.usage.output_tokens > 20


async def test_the_demo_model_quotes_no_more_than_the_beginning_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DELAY_S", 0)
    async with aclosing(ModelGateway(api_base=None, api_key=None, timeouts=QUICK)) as gateway:
        long = ModelRequest(
            model=demo.MODEL, messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 500}]}]
        )
        text = "".join([item.text async for item in gateway.stream(long) if isinstance(item, ModelChunk)])
    assert "x" * 79 + "…" in text
    assert "x" * 80 not in text


async def test_the_demo_model_begins_within_50_ms_once_loaded(gateway: ModelGateway) -> None:
    await gateway.warm_up()
    async with aclosing(gateway.stream(request_to(demo.MODEL))) as stream:
        began = perf_counter()
        await anext(stream)
        assert perf_counter() - began < 0.05
