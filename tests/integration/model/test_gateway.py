"""Refusals, broken answers, stalls and cancels, as the gateway reports them."""

import asyncio
import json
import logging
import socket
from contextlib import aclosing

import pytest

from tests.support.models import model_scripts
from tests.support.models.model_calls import KEY, PATIENT, PROMPT, answer_of, error_of, gateway_to, request_to
from tests.support.models.model_scripts import BreakOff, Hang, Raw, Refusal, Script, Step, ToolFragment, Wire
from tests.support.models.model_server import ModelServer
from turns.model.errors import ModelError
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelTimeouts

NOT_WAITING_TO_BEGIN = ModelTimeouts(first_token_s=0.3, between_tokens_s=60, total_s=120)
NOT_WAITING_TO_GO_ON = ModelTimeouts(first_token_s=60, between_tokens_s=0.3, total_s=120)
"""Deadlines for tests in which nothing else can happen first."""


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (model_scripts.CONTEXT_TOO_LONG, "context_too_long"),
        (Refusal(400, "context_length_exceeded", "Words that nobody knows."), "context_too_long"),
        (model_scripts.CONTENT_FILTERED, "content_filtered"),
        (model_scripts.BAD_REQUEST, "model_error"),
        (model_scripts.BAD_KEY, "model_auth"),
        (Refusal(402, "payment_required"), "model_auth"),
        (Refusal(403, "forbidden"), "model_auth"),
        (model_scripts.UNKNOWN_MODEL, "model_error"),
    ],
)
async def test_a_refusal_has_a_stable_code_and_is_not_retried(
    server: ModelServer, gateway: ModelGateway, refusal: Refusal, code: str
) -> None:
    server.script("refuser", refusal)
    _, error = await error_of(gateway, "refuser")
    assert error.code == code
    assert len(server.requests) == 1


async def test_a_request_that_a_provider_cannot_process_is_an_error(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("pedant", Refusal(422, "invalid"))
    _, error = await error_of(gateway, "pedant")
    assert (error.code, error.detail) == ("model_error", "The provider refused the request as invalid.")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (model_scripts.RATE_LIMITED, "model_rate_limited"),
        (model_scripts.SERVER_ERROR, "model_unavailable"),
        (Refusal(502, "bad_gateway"), "model_unavailable"),
        (model_scripts.OVERLOADED, "model_unavailable"),
        (Script([BreakOff()]), "model_unavailable"),
    ],
)
async def test_a_transient_failure_is_tried_three_times(
    server: ModelServer, gateway: ModelGateway, failure: Script | Refusal, code: str
) -> None:
    server.script("failing", failure)
    _, error = await error_of(gateway, "failing")
    assert error.code == code
    assert len(server.requests) == 3


async def test_a_call_that_succeeds_at_the_second_attempt_is_an_ordinary_answer(
    server: ModelServer, gateway: ModelGateway
) -> None:
    server.script("flaky", model_scripts.OVERLOADED, Script(["fine"]))
    chunks, _ = await answer_of(gateway, "flaky")
    assert chunks == [("text", "fine")]


async def test_a_provider_that_demands_a_long_wait_is_not_retried(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("busy", Refusal(429, "rate_limit_exceeded", headers={"Retry-After": "3600"}))
    _, error = await error_of(gateway, "busy")
    assert (error.code, error.retry_after_s, len(server.requests)) == ("model_rate_limited", 3600, 1)


async def test_an_unreachable_server_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        async with aclosing(ModelGateway(api_base=base, api_key=None, timeouts=PATIENT, max_attempts=1)) as gateway:
            _, error = await error_of(gateway, "anything")
    assert error.code == "model_unavailable"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (BreakOff(), "model_unavailable"),
        (Raw("{not json"), "model_error"),
        (Raw("[1, 2]"), "model_error"),
        (Raw('{"choices": 3}'), "model_error"),
        (Raw('{"choices": [{"delta": {"content": 5}}]}'), "model_error"),
        (Raw('{"choices": [{"delta": {}, "finish_reason": 5}]}'), "model_error"),
        (Raw('{"choices": [{"delta": "text"}]}'), "model_error"),
        (Raw('{"choices": [{"text": "not a stream of chat"}]}'), "model_error"),
        (Raw('{"choices": [{"message": {"content": "a whole answer"}}]}'), "model_error"),
        (Raw('{"choices": ["text"]}'), "model_error"),
        (Raw('{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": {}}}]}}]}'), "model_error"),
        (Raw('{"error": {"message": "overloaded", "code": "server_error"}}'), "model_unavailable"),
    ],
)
async def test_an_answer_that_breaks_after_its_first_chunk_is_an_error_and_not_retried(
    server: ModelServer, gateway: ModelGateway, ending: Raw | BreakOff, code: str
) -> None:
    server.script("breaker", Script(["said", ending]))
    received, error = await error_of(gateway, "breaker")
    assert (received, error.code) == ([("text", "said")], code)
    assert len(server.requests) == 1


@pytest.mark.parametrize("chunks", [["said"], []])
async def test_an_answer_without_a_finish_reason_fails(
    server: ModelServer, gateway: ModelGateway, chunks: list[str]
) -> None:
    server.script("unfinished", Script(chunks, finish_reason=None))
    _, error = await error_of(gateway, "unfinished")
    assert (error.code, error.detail) == ("model_error", "The model's answer ended before it was finished.")


@pytest.mark.parametrize(
    "chunks", [["x" * 9_000_000] * 4, [ToolFragment(0, "a", "add", "x" * 9_000_000)] * 4, [Wire(b"x" * 36_000_000)]]
)
async def test_an_answer_over_the_limits_of_the_log_is_aborted(
    server: ModelServer, gateway: ModelGateway, chunks: list[Step]
) -> None:
    server.script("endless", Script(["said", *chunks, Hang()]))
    received, error = await error_of(gateway, "endless")
    assert (received[0], error.code, error.detail) == (
        ("text", "said"),
        "model_error",
        "The model's answer is too large.",
    )
    assert await server.requests[0].wait_until_given_up()


async def test_a_model_that_cannot_chat_is_a_clear_error(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("completer", Script(["said"]))
    _, error = await error_of(gateway, "text-completion-openai/completer")
    assert (error.code, error.detail) == ("model_error", "This kind of model cannot be asked: it does not chat.")


async def test_a_model_that_never_starts_is_retried_once(server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    server.script("silent", Script([Hang()]))
    async with aclosing(gateway_to(server, NOT_WAITING_TO_BEGIN)) as gateway:
        _, error = await error_of(gateway, "silent")
    assert (error.code, error.detail) == ("model_timeout", "The model did not begin to answer in time.")
    assert [message[-4:] for message in caplog.messages if "model_timeout" in message] == ["True", "alse"]


async def test_a_model_that_sends_only_empty_chunks_has_not_started(server: ModelServer) -> None:
    server.script("breathing", Script([""] * 10_000, delay_s=0.05))
    async with aclosing(gateway_to(server, NOT_WAITING_TO_BEGIN)) as gateway:
        _, error = await error_of(gateway, "breathing")
    assert error.detail == "The model did not begin to answer in time."


async def test_a_model_that_stalls_in_the_middle_times_out_and_is_not_retried(server: ModelServer) -> None:
    server.script("stalling", Script(["a", Hang()]))
    async with aclosing(gateway_to(server, NOT_WAITING_TO_GO_ON)) as gateway:
        received, error = await error_of(gateway, "stalling")
    assert (received, len(server.requests)) == ([("text", "a")], 1)
    assert (error.code, error.detail) == ("model_timeout", "The model stopped in the middle of its answer.")
    assert await server.requests[0].wait_until_given_up()


async def test_a_model_that_never_ends_times_out(server: ModelServer) -> None:
    server.script("endless", Script(["a"] * 10_000, delay_s=0.02))
    async with aclosing(gateway_to(server, ModelTimeouts(first_token_s=60, between_tokens_s=60, total_s=1))) as gateway:
        _, error = await error_of(gateway, "endless")
    assert (error.code, error.detail) == ("model_timeout", "The model's answer took too long in all.")
    assert await server.requests[0].wait_until_given_up()


async def test_closing_the_stream_closes_the_connection_to_the_provider_at_once(
    server: ModelServer, gateway: ModelGateway
) -> None:
    server.script("long", Script(["a", "b", Hang()]))
    stream = gateway.stream(request_to("long"))
    assert await anext(stream) == ("text", "a")
    await stream.aclose()
    assert await server.requests[0].wait_until_given_up()


@pytest.mark.parametrize("chunks", [["a", Hang()], [Hang()]])
async def test_cancelling_a_reader_closes_the_connection_to_the_provider_at_once(
    server: ModelServer, gateway: ModelGateway, chunks: list[str | Hang]
) -> None:
    server.script("waiting", Script(chunks))
    reader = asyncio.create_task(answer_of(gateway, "waiting"))
    assert await server.wait_for_requests(1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await server.requests[0].wait_until_given_up()


async def test_an_error_after_the_finish_reason_is_not_a_failure(server: ModelServer, gateway: ModelGateway) -> None:
    finish = Raw('{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}')
    server.script("hasty", Script(["a", finish, BreakOff()]))
    chunks, end = await answer_of(gateway, "hasty")
    assert (chunks, end.finish_reason, end.usage.estimated) == ([("text", "a")], "stop", True)


@pytest.mark.parametrize(
    "script",
    [
        Script(),
        model_scripts.BAD_KEY,
        Refusal(400, "invalid_value", f"{KEY} {PROMPT}"),
        Refusal(500, "server_error", f"{KEY} {PROMPT}"),
        Script(["a", Raw(f"{{{KEY} {PROMPT}")]),
        Script(["a", Raw(json.dumps({"error": {"message": f"{KEY} {PROMPT}"}}))]),
        Script(["a", BreakOff()]),
        Script([ToolFragment(0, "a", "add", PROMPT)]),
        Script(["a", Hang()]),
    ],
)
async def test_no_key_and_no_prompt_is_ever_logged_printed_or_raised(
    server: ModelServer,
    script: Script | Refusal,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.script("leaky", script)
    with caplog.at_level(logging.DEBUG):
        try:
            async with aclosing(gateway_to(server, NOT_WAITING_TO_GO_ON)) as gateway:
                await answer_of(gateway, "leaky")
        except ModelError:
            logging.getLogger("test").exception("a turn failed")
    printed = "".join(capfd.readouterr())
    assert KEY not in caplog.text + printed
    assert PROMPT not in caplog.text + printed
    assert "litellm" not in printed.lower()
