"""Errors that a provider reports in its stream, and parameters that it refuses."""

import json
from contextlib import aclosing
from typing import Any

import pytest

from tests.support.models.model_calls import KEY, PROMPT, answer_of, error_of, gateway_to
from tests.support.models.model_scripts import Raw, Refusal, Script, Wire
from tests.support.models.model_server import ModelServer
from turns.model.gateway import ModelGateway

pytestmark = pytest.mark.parametrize("model", ["odd", "hosted_vllm/odd", "openrouter/odd", "groq/odd"])

REPORTS: list[tuple[dict[str, Any], str]] = [
    ({"error": {"message": "Rate limit reached.", "code": 429}}, "model_rate_limited"),
    ({"error": {"message": "Slow down.", "code": "429"}}, "model_rate_limited"),
    ({"error": {"message": "Slow down.", "type": "invalid_request_error", "code": 429}}, "model_rate_limited"),
    ({"error": {"message": "Slow down.", "type": "rate_limit_error"}}, "model_rate_limited"),
    ({"error": {"message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}, "model_rate_limited"),
    ({"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}, "choices": []}, "model_rate_limited"),
    ({"error": "Rate limit exceeded"}, "model_rate_limited"),
    ({"error": True, "code": 429, "message": "Slow down."}, "model_rate_limited"),
    ({"object": "error", "message": "Slow down.", "type": "TooManyRequests", "code": 429}, "model_rate_limited"),
    ({"code": 429, "message": "Slow down."}, "model_rate_limited"),
    ({"errors": [{"code": 429, "message": "Slow down."}]}, "model_rate_limited"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "model_unavailable"),
    ({"error": {"message": "Bad gateway", "code": 502, "metadata": {}}}, "model_unavailable"),
    ({"error": {"message": "?", "code": "server_error"}}, "model_unavailable"),
    ({"error": {"message": "No auth", "code": 401}}, "model_auth"),
    ({"error": {"message": "?", "code": "invalid_api_key"}}, "model_auth"),
    ({"error": {"message": "Insufficient credits", "code": 402}}, "model_auth"),
    ({"error": {"message": "This model's maximum context length is 8192 tokens.", "code": 400}}, "context_too_long"),
    ({"error": {"message": "?", "code": "context_length_exceeded"}}, "context_too_long"),
    ({"error": {"message": "?", "code": "content_filter"}}, "content_filtered"),
    ({"error": {"message": "?", "code": 504}}, "model_timeout"),
    ({"error": {"message": "?", "code": 400}}, "model_error"),
    ({"error": {"message": "?"}}, "model_error"),
    (
        {"error": {"message": "?", "code": 429}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
        "model_rate_limited",
    ),
    (
        {"choices": [{"delta": {}, "error": {"code": 429, "message": "?"}, "finish_reason": "error"}]},
        "model_rate_limited",
    ),
    ({"choices": [{"delta": {}, "finish_reason": "error"}]}, "model_error"),
    ({"choices": [{"delta": {}, "finish_reason": "abort"}]}, "model_error"),
]


@pytest.mark.parametrize(("report", "code"), REPORTS)
@pytest.mark.parametrize("texts", [[], ["said"]])
async def test_an_error_in_the_stream_keeps_its_code(
    server: ModelServer, model: str, report: dict[str, Any], code: str, texts: list[str]
) -> None:
    server.script("odd", Script([*texts, Raw(json.dumps(report))], finish_reason=None))
    async with aclosing(gateway_to(server, max_attempts=1)) as gateway:
        received, error = await error_of(gateway, model)
    assert ([chunk.text for chunk in received], error.code) == (texts, code)


async def test_a_transient_error_before_the_first_chunk_is_retried(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    server.script("odd", Script([Raw('{"error": {"message": "Slow down.", "code": 429}}')]), Script(["fine"]))
    chunks, _ = await answer_of(gateway, model)
    assert (chunks, len(server.requests)) == ([("text", "fine")], 2)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'event: error\ndata: {"error": {"message": "Slow down.", "code": 429}}\n\n', "model_rate_limited"),
        (b'event: error\ndata: {"message": "Slow down.", "code": 429}\n\n', "model_rate_limited"),
        (b"event: error\ndata: The engine is overloaded.\n\n", "model_unavailable"),
        (b"event: error\ndata:\n\n", "model_error"),
        (b'{"error":\n {"message": "Slow down.", "code": 429}}\n', "model_rate_limited"),
    ],
)
async def test_an_error_is_recognized_in_every_wrapping(
    server: ModelServer, model: str, body: bytes, code: str
) -> None:
    server.script("odd", Script([Wire(body)], finish_reason=None, usage=None, done=False))
    async with aclosing(gateway_to(server, max_attempts=1)) as gateway:
        assert (await error_of(gateway, model))[1].code == code


@pytest.mark.parametrize(
    "nothing", ['{"error": null}', '{"error": null, "choices": [{"delta": {"content": ""}}]}', '{"error": {}}']
)
async def test_an_empty_error_is_ignored(server: ModelServer, gateway: ModelGateway, model: str, nothing: str) -> None:
    server.script("odd", Script(["a", Raw(nothing), "b"]))
    assert [chunk.text for chunk in (await answer_of(gateway, model))[0]] == ["a", "b"]


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(400, "unknown_parameter", "Unrecognized request argument supplied: stream_options"),
        Refusal(422, "invalid", '[{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]'),
        Refusal(400, "invalid_value", "Unknown field: include_usage"),
        Refusal(400, "invalid_value", "json: unknown field"),
        Refusal(422, "invalid", "Extra inputs are not permitted"),
        Refusal(500, "server_error", "TypeError: create() got an unexpected keyword argument 'stream_options'"),
    ],
)
async def test_a_server_that_refuses_stream_options_is_retried_without_them(
    server: ModelServer, gateway: ModelGateway, model: str, refusal: Refusal
) -> None:
    server.script("odd", refusal, Script(["fine"]))
    chunks, end = await answer_of(gateway, model)
    first, second = (request.body for request in server.requests)
    assert (chunks, end.usage.estimated) == ([("text", "fine")], True)
    assert first.pop("stream_options") == {"include_usage": True}
    assert first == second


async def test_a_refusal_of_the_retried_request_keeps_its_code(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    refusal = Refusal(400, "unknown_parameter", "Unrecognized request argument supplied: stream_options")
    server.script("odd", refusal, Refusal(401, "invalid_api_key"))
    assert (await error_of(gateway, model))[1].code == "model_auth"


async def test_the_text_of_an_error_in_the_stream_is_not_shown(
    server: ModelServer, gateway: ModelGateway, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("odd", Script([Raw(json.dumps({"error": {"message": f"{KEY} {PROMPT}", "code": KEY}}))]))
    _, error = await error_of(gateway, model)
    assert KEY not in caplog.text + str(error) + error.cause
    assert PROMPT not in caplog.text + str(error) + error.cause
