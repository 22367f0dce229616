"""The gateway uses and closes only its own connections, on its own event loop."""

import asyncio
import socket
import threading
from collections.abc import Generator
from contextlib import aclosing, contextmanager
from typing import Any

import httpx
import pytest

from tests.support.models.model_calls import answer_of, error_of, gateway_to
from tests.support.models.model_scripts import Hang, Pause, Script, Wire
from tests.support.models.model_server import ANY_MODEL, HANG_S, ModelServer
from turns.model.errors import ModelError
from turns.model.gateway import ModelGateway
from turns.model.provider_routing import TAKES_HTTP_HANDLER

SAID = 'data: {"choices": [{"delta": {"content": "a\u2028b"}}]}\n\n'
OTHERWISE_SIGNED_IN = {"chatgpt", "github_copilot", "gigachat", "oci", "sap", "vertex_ai", "vertex_ai_beta"}
"""Providers that request a token from another server first."""


def known_providers(litellm: Any) -> set[str]:
    """The installed providers of OpenAI's kind, and those with litellm's own client."""
    known = {str(getattr(name, "value", name)) for name in litellm.provider_list}
    alike = {str(getattr(name, "value", name)) for name in litellm.openai_compatible_providers}
    return (alike | TAKES_HTTP_HANDLER | {"azure", "openai"}) & (known | alike)


async def test_our_parser_reads_every_provider_of_openais_kind(server: ModelServer, litellm: Any) -> None:
    server.script(ANY_MODEL, Script([Wire(SAID.encode())], usage=None))
    answers: dict[str, Any] = {}
    async with aclosing(gateway_to(server, max_attempts=1)) as gateway:
        for name in sorted(known_providers(litellm) - OTHERWISE_SIGNED_IN):
            server.requests.clear()
            try:
                chunks, _ = await answer_of(gateway, f"{name}/some-model")
                answers[name] = [chunk.text for chunk in chunks]
            except ModelError as error:
                if any(request.path.endswith("/chat/completions") for request in server.requests):
                    answers[name] = str(error)
    server.script(ANY_MODEL)
    assert {name: texts for name, texts in answers.items() if texts != ["a\u2028b"]} == {}
    assert len(answers) > 60
    assert {
        "openai",
        "hosted_vllm",
        "openrouter",
        "deepseek",
        "groq",
        "together_ai",
        "mistral",
        "xai",
    } <= answers.keys()


ANTHROPIC = """event: message_start
data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],
data: "usage":{"input_tokens":5,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

: comment

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a%b"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}}

event: message_stop
data: {"type":"message_stop"}
"""  # the last event ends without an empty line


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_an_answer_that_litellm_translates_is_complete(
    server: ModelServer, gateway: ModelGateway, newline: str
) -> None:
    splitters = "\u2028\u2029\x85"
    body = "\ufeff" + ANTHROPIC.replace("%", splitters).replace("\n", newline)
    server.script("claude", Script([Wire(body.encode())], finish_reason=None, usage=None, done=False))
    chunks, end = await answer_of(gateway, "anthropic/claude")
    assert "".join(chunk.text for chunk in chunks) == f"a{splitters}b"
    assert (end.finish_reason, end.usage.input_tokens, end.usage.output_tokens) == ("stop", 5, 7)


async def test_a_line_of_json_that_litellm_translates_is_complete(server: ModelServer, gateway: ModelGateway) -> None:
    lines = [
        '{"model":"l","message":{"role":"assistant","content":"a%b"},"done":false}',
        '{"model":"l","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}',
    ]
    body = "".join(f"{line}\n" for line in lines).replace("%", "\u2028\x85")
    script = Script(
        [Wire(body.encode())], finish_reason=None, usage=None, done=False, media_type="application/x-ndjson"
    )
    server.script("llama", script)
    chunks, _ = await answer_of(gateway, "ollama_chat/llama")
    assert "".join(chunk.text for chunk in chunks) == "a\u2028\x85b"


@contextmanager
def requests_in_a_loop(server: ModelServer, model: str) -> Generator[list[str]]:
    """Ask a model repeatedly from a gateway of another event loop.

    Yield the errors.
    """
    wrong: list[str] = []
    answered, stop = threading.Event(), threading.Event()

    async def ask() -> None:
        async with aclosing(gateway_to(server, max_attempts=1)) as gateway:
            while not stop.is_set():
                try:
                    await answer_of(gateway, model)
                except ModelError as error:
                    wrong.append(str(error))
                answered.set()

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    try:
        assert answered.wait(HANG_S)
        yield wrong
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("model", ["busy", "hosted_vllm/busy", "anthropic/busy"])
def test_closing_a_gateway_disturbs_no_other(server: ModelServer, model: str) -> None:
    script = Script([Wire(ANTHROPIC.encode() + b"\n")], finish_reason=None, usage=None, done=False)
    server.script("busy", script if model.startswith("anthropic") else Script(["a"] * 20 + [Pause(0.01)] + ["b"] * 20))

    async def ask_and_close() -> None:
        async with aclosing(gateway_to(server, max_attempts=1)) as gateway:
            await answer_of(gateway, model)

    with requests_in_a_loop(server, model) as wrong:
        for _ in range(20):
            asyncio.run(ask_and_close())
    assert wrong == []


async def test_a_gateway_closes_no_connection_of_another(server: ModelServer) -> None:
    server.script("kept", Script(keep_alive=True))
    async with aclosing(gateway_to(server)) as first:
        await answer_of(first, "kept")
        async with aclosing(gateway_to(server)) as second:
            await answer_of(second, "kept")
        await answer_of(first, "kept")
    ports = [request.client_port for request in server.requests]
    assert ports[0] == ports[2] != ports[1]


async def test_a_closed_gateway_leaves_no_connection_open(server: ModelServer) -> None:
    server.script("kept", Script(keep_alive=True))
    async with aclosing(gateway_to(server)) as gateway:
        await answer_of(gateway, "kept")
        await answer_of(gateway, "hosted_vllm/kept")
        assert server.open_connections == 1
    assert await server.wait_until_all_left()


async def test_other_requests_in_the_process_use_their_own_connections(server: ModelServer, litellm: Any) -> None:
    server.script("other", Script(["a", "b"]))
    call = {"model": "openai/other", "api_base": server.url, "api_key": "k", "stream": True}
    stream: Any = await litellm.acompletion(**call, messages=[{"role": "user", "content": "Hi"}])
    texts = [chunk.choices[0].delta.content async for chunk in stream]
    assert "".join(filter(None, texts)) == "ab"


@pytest.mark.parametrize("model", ["gone", "hosted_vllm/gone"])
async def test_any_error_of_litellm_is_a_model_error(
    server: ModelServer, gateway: ModelGateway, litellm: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(**_: Any) -> None:
        raise RuntimeError("litellm is broken")

    monkeypatch.setattr(litellm, "acompletion", broken)
    _, error = await error_of(gateway, model)
    assert error.code == "model_error"
    assert not server.requests


@pytest.mark.parametrize("begun", [True, False])
def test_the_model_server_of_these_tests_ends_while_an_answer_hangs(begun: bool) -> None:
    with ModelServer() as server:
        server.script("hanging", Script(["Hi", Hang()]))
        url, body = httpx.URL(server.url), b'{"model": "hanging"}'
        client = socket.create_connection((url.host, url.port or 0))
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        if begun:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    client.close()
