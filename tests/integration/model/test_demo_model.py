"""The built-in demo model answers through the same litellm call as any other."""

from contextlib import aclosing
from typing import Any

import pytest

from tests.support.models.model_calls import PATIENT, PROMPT, answer_of, error_of, gateway_to, request_to
from tests.support.models.model_scripts import Script
from tests.support.models.model_server import ModelServer
from turns.model import demo_model
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelChunk, ModelRequest


async def test_the_demo_model_answers_without_a_key_or_a_server_and_names_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_model, "DELAY_S", 0)
    async with aclosing(ModelGateway(api_base=None, api_key=None, timeouts=PATIENT)) as gateway:
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
    monkeypatch.setattr(demo_model, "DELAY_S", 0)
    async with aclosing(ModelGateway(api_base=None, api_key=None, timeouts=PATIENT)) as gateway:
        long = ModelRequest(
            model=demo_model.MODEL, messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 500}]}]
        )
        text = "".join([item.text async for item in gateway.stream(long) if isinstance(item, ModelChunk)])
    assert "x" * 79 + "…" in text
    assert "x" * 80 not in text


async def test_the_demo_model_answers_word_by_word(gateway: ModelGateway) -> None:
    async with aclosing(gateway.stream(request_to(demo_model.MODEL))) as stream:
        first, second = await anext(stream), await anext(stream)
    assert (first, second) == (("text", "This "), ("text", "is "))


async def test_litellm_knows_the_demo_model_as_a_provider(litellm: Any) -> None:
    (entry,) = (entry for entry in litellm.custom_provider_map if entry["provider"] == demo_model.PROVIDER)
    assert isinstance(entry["custom_handler"], litellm.CustomLLM)


async def test_other_models_answer_when_the_demo_model_does_not_start(
    server: ModelServer, litellm: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no demo")

    assert litellm.custom_provider_map
    monkeypatch.setattr("turns.model.demo_provider.DemoProvider.astreaming", broken)
    server.script("other", Script(["fine"]))
    async with aclosing(gateway_to(server)) as gateway:
        chunks, _ = await answer_of(gateway, "other")
        assert chunks == [("text", "fine")]
        assert "the demo model is not ready" in caplog.text
        _, error = await error_of(gateway, demo_model.MODEL)
    assert error.code == "model_error"


async def test_providers_of_the_application_stay_registered(server: ModelServer, litellm: Any) -> None:
    other = {"provider": "ours", "custom_handler": litellm.CustomLLM()}
    before = litellm.custom_provider_map
    try:
        litellm.custom_provider_map = [other]
        async with aclosing(gateway_to(server)) as gateway:
            await gateway.warm_up()
        assert [entry["provider"] for entry in litellm.custom_provider_map] == ["ours", demo_model.PROVIDER]
    finally:
        litellm.custom_provider_map = before
