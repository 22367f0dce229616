"""Streams of providers of OpenAI's kind, through every path of litellm."""

import json
from typing import Any

import pytest

from tests.support.models.model_calls import answer_of, error_of
from tests.support.models.model_scripts import Raw, Reasoning, Script, ToolFragment, Wire, usage
from tests.support.models.model_server import ModelServer
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelChunk

ROUTES = [
    "odd",
    "hosted_vllm/odd",
    "openrouter/odd",
    "deepseek/odd",
    "groq/odd",
    "together_ai/odd",
    "azure/odd",
    "mistral/odd",
]
SPLITTERS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
HI = [ModelChunk("text", "Hi")]

pytestmark = pytest.mark.parametrize("model", ROUTES)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> str:
    """Return a chunk as some servers write it, with unescaped characters."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    whole = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "odd", "choices": [choice]}
    return json.dumps({**whole, **more}, ensure_ascii=False)


def wire(stream: str, *, bom: bool = False) -> Script:
    """Return a script that sends these bytes, an ordinary finish and `[DONE]`."""
    return Script([Wire(b"\xef\xbb\xbf" * bom + stream.encode())])


FIRST, SECOND = chunk({"content": "H"}), chunk({"content": "i"})
WHOLE, STOP = chunk({"content": "Hi"}), chunk({}, "stop")


@pytest.mark.parametrize(
    "stream",
    [
        f": OPENROUTER PROCESSING\n\ndata: {WHOLE}\n\n",
        f"data: {FIRST}\n\n: keep-alive\n\ndata: {SECOND}\n\n",
        f"retry: 3000\ndata: {WHOLE}\n\n",
        f"retry: 3000\n\ndata: {WHOLE}\n\n",
        f"event: message\ndata: {WHOLE}\n\n",
        f"event: chat.completion.chunk\ndata: {WHOLE}\n\n",
        f"id: 1\ndata: {FIRST}\n\nid: 2\ndata: {SECOND}\n\n",
        f"data: {FIRST}\n\n\n\ndata: {SECOND}\n\n",
        f"data: {WHOLE}\n\ndata:\n\ndata: \n\ndata\n\n",
        f"data: {WHOLE}\n\nevent: keepalive\n\n",
        f"event: ping\ndata: {{}}\n\ndata: {WHOLE}\n\n",
        f"event: ping\ndata: 2026-01-01\n\ndata: {WHOLE}\n\ndata: ping\n\n",
        f"data: {WHOLE}\r\n\r\n",
        f"data: {FIRST}\r\rdata: {SECOND}\r\r",
        f"data:{WHOLE}\n\n",
        "data: " + WHOLE.replace(", ", ",\ndata: ") + "\n\n",
        f"data: {FIRST}\ndata: {SECOND}\n\n",
        f"data: {WHOLE}\n\ndata: {STOP}\n\ndata: [DONE] \n\n",
        f"data: {WHOLE}\n\ndata: {STOP}\n\ndata:[DONE]\n\n",
        f"data: {WHOLE}\n\ndata: {STOP}\n\ndata: [DONE]",
    ],
)
async def test_every_framing_of_a_stream_gives_the_same_answer(
    server: ModelServer, gateway: ModelGateway, model: str, stream: str
) -> None:
    server.script("odd", wire(stream))
    chunks, end = await answer_of(gateway, model)
    assert ("".join(piece.text for piece in chunks), end.finish_reason) == ("Hi", "stop")


async def test_a_byte_order_mark_is_ignored(server: ModelServer, gateway: ModelGateway, model: str) -> None:
    server.script("odd", wire(f"data: {WHOLE}\n\n", bom=True))
    assert (await answer_of(gateway, model))[0] == HI


async def test_a_last_event_without_an_empty_line_counts(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    server.script(
        "odd", Script([Wire(f"data: {WHOLE}\n\ndata: {STOP}".encode())], finish_reason=None, usage=None, done=False)
    )
    chunks, end = await answer_of(gateway, model)
    assert (chunks, end.finish_reason) == (HI, "stop")


async def test_only_cr_and_lf_end_a_line(server: ModelServer, gateway: ModelGateway, model: str) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "add", "arguments": '{"x": "%"}'}}
    deltas = [{"content": "a%b"}, {"reasoning_content": "%"}, {"tool_calls": [call]}]
    stream = "".join(f"data: {chunk(delta)}\n\n" for delta in deltas).replace("%", SPLITTERS)
    server.script("odd", Script([Wire(stream.encode())], finish_reason="tool_calls"))
    chunks, end = await answer_of(gateway, model)
    assert chunks == [("text", f"a{SPLITTERS}b"), ("reasoning", SPLITTERS)]
    assert [call.input for call in end.tool_calls] == [{"x": SPLITTERS}]


async def test_a_character_that_is_split_between_reads_is_complete(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    halves = [
        Raw('{"choices": [{"delta": {"content": "a\\ud83d"}}]}'),
        Raw('{"choices": [{"delta": {"content": "\\ude00b"}}]}'),
    ]
    server.script("odd", Script(halves))
    chunks, _ = await answer_of(gateway, model)
    assert "".join(piece.text for piece in chunks) == "a😀b"


async def test_an_incomplete_character_at_the_end_is_replaced(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    server.script("odd", Script([Raw('{"choices": [{"delta": {"content": "a\\ud83d"}}]}')]))
    chunks, _ = await answer_of(gateway, model)
    assert "".join(piece.text for piece in chunks) == "a\ufffd"


async def test_a_refusal_is_the_text_of_the_answer(server: ModelServer, gateway: ModelGateway, model: str) -> None:
    refusal = [Raw(chunk({"refusal": "I can"})), Raw(chunk({"content": None, "refusal": "not."}))]
    server.script("odd", Script(refusal))
    chunks, end = await answer_of(gateway, model)
    assert (chunks, end.finish_reason) == ([("text", "I can"), ("text", "not.")], "content_filter")


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        ([{"type": "text", "text": "Hi"}], HI),
        ([{"type": "output_text", "text": "H"}, {"type": "text", "text": "i"}], [("text", "H"), ("text", "i")]),
        (["Hi"], HI),
        ({"type": "text", "text": "Hi"}, HI),
        ([{"type": "text", "text": {"value": "Hi"}}], HI),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Hi"}],
            [("reasoning", "Hm"), *HI],
        ),
        (
            [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
                {"type": "text", "text": "Hi"},
            ],
            [("reasoning", "Hm"), *HI],
        ),
        (
            [
                {"type": "text", "text": "Hi"},
                {"type": "reference", "reference_ids": [1]},
                {"type": "text", "text": None},
            ],
            HI,
        ),
    ],
)
async def test_content_may_be_a_list_of_parts(
    server: ModelServer, gateway: ModelGateway, model: str, content: object, pieces: list[tuple[str, str]]
) -> None:
    server.script("odd", Script([Raw(chunk({"content": content}))]))
    assert (await answer_of(gateway, model))[0] == pieces


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm"},
        {"reasoning": "Hm", "reasoning_content": "Hm"},
        {"reasoning_text": "Hm"},
        {"thinking": "Hm"},
        {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
        {
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "Hm"},
                {"type": "reasoning.encrypted", "data": "x"},
            ]
        },
    ],
)
async def test_reasoning_is_read_under_every_name(
    server: ModelServer, gateway: ModelGateway, model: str, delta: dict[str, Any]
) -> None:
    server.script("odd", Script([Raw(chunk({"content": "", **delta})), "Hi"]))
    assert (await answer_of(gateway, model))[0] == [("reasoning", "Hm"), *HI]


@pytest.mark.parametrize(
    "place",
    [
        lambda counts: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts}]},
        lambda counts: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": counts},
        lambda counts: {"choices": [], "usage": counts},
        lambda counts: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": counts}},
    ],
)
async def test_usage_is_found_in_every_place(
    server: ModelServer, gateway: ModelGateway, model: str, place: Any
) -> None:
    server.script("odd", Script(["Hi", Raw(json.dumps(place(usage(11, 7, cached=3))))], usage=None))
    _, end = await answer_of(gateway, model)
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.cached_input_tokens) == (11, 7, 3)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}, (9, 5, 4, 0)),
        ({"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}, (9, 5, 4, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "cached_tokens": 4, "reasoning_tokens": 2, "total_tokens": 14},
            (9, 5, 4, 2),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": 16,
            },
            (9, 7, 0, 2),
        ),
    ],
)
async def test_usage_under_other_names_is_the_same_usage(
    server: ModelServer, gateway: ModelGateway, model: str, counts: dict[str, Any], expected: tuple[int, ...]
) -> None:
    server.script("odd", Script(["Hi", Raw(json.dumps({"choices": [], "usage": counts}))], usage=None))
    _, end = await answer_of(gateway, model)
    got = end.usage
    assert (got.input_tokens, got.output_tokens, got.cached_input_tokens, got.reasoning_tokens) == expected


@pytest.mark.parametrize("word", ["tool_calls", "function_call", "tool_use"])
async def test_an_announced_call_that_is_missing_is_a_failure(
    server: ModelServer, gateway: ModelGateway, model: str, word: str
) -> None:
    server.script("odd", Script(["Let me see."], finish_reason=word))
    received, error = await error_of(gateway, model)
    assert (received, error.code) == ([("text", "Let me see.")], "model_error")
    assert error.detail == "The model announced a tool call and sent none."


@pytest.mark.parametrize(
    ("finish_reason", "code"),
    [("stop", "model_error"), ("length", "model_error"), ("content_filter", "content_filtered")],
)
async def test_an_answer_without_text_or_a_call_is_a_failure(
    server: ModelServer, gateway: ModelGateway, model: str, finish_reason: str, code: str
) -> None:
    server.script("odd", Script(["", Raw(chunk({"role": "assistant", "content": None}))], finish_reason=finish_reason))
    _, error = await error_of(gateway, model)
    assert error.code == code


async def test_the_extra_content_of_a_call_is_returned_with_it(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    extra = {"google": {"thought_signature": "c2ln"}}
    call = {"index": 0, "id": "a", "function": {"name": "now", "arguments": "null"}, "extra_content": extra}
    server.script("odd", Script([Reasoning("Hm"), Raw(chunk({"tool_calls": [call]}))], finish_reason="tool_calls"))
    chunks, end = await answer_of(gateway, model)
    (call_made,) = end.tool_calls
    assert (chunks, call_made.input, call_made.extra_content) == ([("reasoning", "Hm")], {}, extra)


async def test_calls_with_the_same_index_are_distinguished(
    server: ModelServer, gateway: ModelGateway, model: str
) -> None:
    calls = [ToolFragment(0, "", "one", '{"a": 1}'), ToolFragment(0, "", "two", '{"b": 2}')]
    server.script("odd", Script(calls, finish_reason="tool_calls"))
    _, end = await answer_of(gateway, model)
    assert [(call.name, call.input) for call in end.tool_calls] == [("one", {"a": 1}), ("two", {"b": 2})]
