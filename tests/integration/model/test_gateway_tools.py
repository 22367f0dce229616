"""Tool calls through the gateway are streamed in fragments and delivered complete."""

import json

import pytest

from tests.support.models.model_calls import answer_of, error_of
from tests.support.models.model_scripts import Raw, Script, ToolFragment
from tests.support.models.model_server import ModelServer
from turns.model.gateway import ModelGateway


async def test_tool_calls_are_assembled_from_their_fragments(server: ModelServer, gateway: ModelGateway) -> None:
    fragments = [
        "Let me see.",
        ToolFragment(0, "call_a", "add", ""),
        ToolFragment(1, "call_b", "weather", '{"city": "Mün'),
        ToolFragment(0, arguments='{"a": 1, '),
        ToolFragment(1, arguments='chen"}'),
        ToolFragment(0, arguments='"b": 2}'),
    ]
    server.script("tooler", Script(fragments, finish_reason="tool_calls"))
    chunks, end = await answer_of(gateway, "tooler")
    assert chunks == [("text", "Let me see.")]
    assert end.finish_reason == "tool_use"
    assert [(call.id, call.name, call.input) for call in end.tool_calls] == [
        ("call_a", "add", {"a": 1, "b": 2}),
        ("call_b", "weather", {"city": "München"}),
    ]


async def test_a_tool_call_without_arguments_or_id_is_accepted(server: ModelServer, gateway: ModelGateway) -> None:
    server.script("terse", Script([ToolFragment(0, None, "now")], finish_reason="stop"))
    _, end = await answer_of(gateway, "terse")
    (call,) = end.tool_calls
    assert (end.finish_reason, call.name, call.input) == ("tool_use", "now", {})
    assert call.id


async def test_parallel_calls_with_the_same_index_are_distinguished_by_their_ids(
    server: ModelServer, gateway: ModelGateway
) -> None:
    fragments = [ToolFragment(0, "a", "one", "{}"), ToolFragment(0, "b", "two", "{}")]
    server.script("muddler", Script(fragments, finish_reason="tool_calls"))
    _, end = await answer_of(gateway, "muddler")
    assert [call.name for call in end.tool_calls] == ["one", "two"]


@pytest.mark.parametrize("indexes", [("0", "1"), (0.0, 1.0), (-1, 7)])
async def test_calls_are_distinguished_by_indexes_of_any_type(
    server: ModelServer, gateway: ModelGateway, indexes: tuple[object, object]
) -> None:
    functions = [{"name": "one", "arguments": ""}, {"name": "two", "arguments": '{"b": 1}'}]
    calls = [{"index": at, "function": function} for at, function in zip(indexes, functions, strict=True)]
    server.script("counter", Script([Raw(json.dumps({"choices": [{"delta": {"tool_calls": calls}}]}))]))
    _, end = await answer_of(gateway, "counter")
    assert [(call.name, call.input) for call in end.tool_calls] == [("one", {}), ("two", {"b": 1})]


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", '"text"'])
async def test_a_tool_call_that_is_not_a_json_object_is_an_error(
    server: ModelServer, gateway: ModelGateway, arguments: str
) -> None:
    server.script("garbler", Script([ToolFragment(0, "a", "add", arguments)], finish_reason="tool_calls"))
    _, error = await error_of(gateway, "garbler")
    assert error.code == "model_error"


async def test_a_tool_call_that_is_cut_off_by_the_length_limit_is_dropped(
    server: ModelServer, gateway: ModelGateway
) -> None:
    fragments = [ToolFragment(0, "a", "one", "{}"), ToolFragment(1, "b", "two", '{"a":')]
    server.script("cut-off", Script(fragments, finish_reason="length"))
    _, end = await answer_of(gateway, "cut-off")
    assert (end.finish_reason, [call.name for call in end.tool_calls]) == ("length", ["one"])
