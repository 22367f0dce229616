"""Assembling tool calls from streamed fragments."""

import json
from typing import Any

import pytest

from turns.model.errors import ModelError
from turns.model.gateway_types import ToolCall
from turns.model.streams.openai_chunks import delta_of_json
from turns.model.streams.tool_fragments import ToolFragments

PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
NAMES = ("get_time", "get_weather")
BOTH = [("get_time", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
SAME_TOOL = [("get_time", {"city": "Paris"}), ("get_time", {"city": "Rome"})]
ABSENT: Any = object()


def piece(
    index: object = ABSENT, call_id: object = None, name: str | None = None, arguments: object = None
) -> dict[str, Any]:
    said = {"index": index if index is not ABSENT else None, "id": call_id}
    function = {"name": name, "arguments": arguments}
    return {
        **{key: value for key, value in said.items() if value is not None},
        "function": {key: value for key, value in function.items() if value is not None},
    }


def calls_in(*chunks: list[dict[str, Any]], names: tuple[str, ...] = NAMES) -> tuple[ToolCall, ...]:
    fragments = ToolFragments(names)
    for chunk in chunks:
        fragments.add(delta_of_json({"tool_calls": chunk}).fragments)
    return fragments.complete_calls(cut_off=False)


def named(calls: tuple[ToolCall, ...]) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.input) for call in calls]


SHAPES: dict[str, list[list[dict[str, Any]]]] = {
    "as OpenAI does": [
        [piece(0, "a", "get_time", "")],
        [piece(0, arguments='{"city":')],
        [piece(1, "b", "get_weather", "")],
        [piece(1, arguments=ROME)],
        [piece(0, arguments=' "Paris"}')],
    ],
    "one index, two ids": [[piece(0, "a", "get_time", PARIS)], [piece(0, "b", "get_weather", ROME)]],
    "one index for the heads, another for the tail": [
        [piece(0, "a", "get_time", "")],
        [piece(0, arguments=PARIS)],
        [piece(0, "b", "get_weather", "")],
        [piece(1, arguments='{"city": ')],
        [piece(1, arguments='"Rome"}')],
    ],
    "no index, tails without id": [
        [piece(ABSENT, "a", "get_time", "")],
        [piece(arguments=PARIS)],
        [piece(ABSENT, "b", "get_weather", "")],
        [piece(arguments='{"city": ')],
        [piece(arguments='"Rome"}')],
    ],
    "tails without index but with id": [
        [piece(0, "a", "get_time", "")],
        [piece(1, "b", "get_weather", "")],
        [piece(ABSENT, "a", arguments=PARIS)],
        [piece(ABSENT, "b", arguments=ROME)],
    ],
    "one index, tails told apart by id": [
        [piece(0, "a", "get_time", '{"city"')],
        [piece(0, "b", "get_weather", '{"city"')],
        [piece(0, "a", arguments=': "Paris"}')],
        [piece(0, "b", arguments=': "Rome"}')],
    ],
    "one index, no ids": [[piece(0, None, "get_time", PARIS)], [piece(0, None, "get_weather", ROME)]],
    "nothing but names, in one chunk": [
        [piece(ABSENT, None, "get_time", PARIS), piece(ABSENT, None, "get_weather", ROME)]
    ],
    "nothing but places": [
        [piece(ABSENT, None, "get_time", ""), piece(ABSENT, None, "get_weather", "")],
        [piece(arguments=PARIS), piece(arguments=ROME)],
    ],
    "the name with every piece": [
        [piece(0, "a", "get_time", '{"city":')],
        [piece(0, "a", "get_time", ' "Paris"}')],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "the name with every piece, no ids": [
        [piece(0, None, "get_time", '{"city":')],
        [piece(0, None, "get_time", ' "Paris"}')],
        [piece(1, None, "get_weather", ROME)],
    ],
    "a gap between the indexes": [[piece(1, "a", "get_time", PARIS)], [piece(3, "b", "get_weather", ROME)]],
    "head and first arguments apart": [
        [piece(0, "a", "get_time"), piece(0, arguments='{"city": ')],
        [piece(0, arguments='"Paris"}')],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "a new id with every piece": [
        [piece(0, "a1", "get_time", '{"city": ')],
        [piece(0, "a2", None, '"Paris"}')],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "a new id and the name with every piece": [
        [piece(0, "a1", "get_time", '{"city": ')],
        [piece(0, "a2", "get_time", '"Paris"}')],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "the name in pieces": [
        [piece(0, "a", "get_", "")],
        [piece(0, None, "time", "")],
        [piece(0, arguments=PARIS)],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "one id for all": [[piece(0, "x", "get_time", PARIS)], [piece(1, "x", "get_weather", ROME)]],
    "the id after the name": [
        [piece(0, None, "get_time", "")],
        [piece(0, "a", None, PARIS)],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "arguments as an object": [
        [piece(0, "a", "get_time", {"city": "Paris"})],
        [piece(1, "b", "get_weather", {"city": "Rome"})],
    ],
    "arguments that grow": [
        [piece(0, "a", "get_time", '{"city":')],
        [piece(0, "a", "get_time", '{"city":"Paris"}')],
        [piece(1, "b", "get_weather", ROME)],
    ],
    "all calls once more at the end": [
        [piece(0, "a", "get_time", PARIS)],
        [piece(1, "b", "get_weather", ROME)],
        [piece(0, "a", "get_time", PARIS), piece(1, "b", "get_weather", ROME)],
    ],
    "empty texts in place of none": [
        [piece(0, "a", "get_time", "")],
        [piece(0, "", "", PARIS)],
        [piece(1, "b", "get_weather", "")],
        [piece(1, "", "", ROME)],
    ],
    "ids that are numbers": [[piece(0, 1, "get_time", PARIS)], [piece(1, 2, "get_weather", ROME)]],
    "indexes that are texts": [[piece("0", "a", "get_time", PARIS)], [piece("1", "b", "get_weather", ROME)]],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_two_calls_are_told_apart_in_every_shape_of_stream(shape: list[list[dict[str, Any]]]) -> None:
    calls = calls_in(*shape)
    assert named(calls) == BOTH
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize(
    "shape",
    [
        [[piece(0, "", "get_time", PARIS)], [piece(0, "", "get_time", ROME)]],
        [[piece(0, None, "get_time", PARIS)], [piece(0, None, "get_time", ROME)]],
        [[piece(0, "a", "get_time", PARIS)], [piece(0, "b", "get_time", ROME)]],
        [[piece(ABSENT, None, "get_time", PARIS)], [piece(ABSENT, None, "get_time", ROME)]],
        [[piece(ABSENT, None, "get_time", PARIS), piece(ABSENT, None, "get_time", ROME)]],
        [[piece(0, "x", "get_time", PARIS)], [piece(1, "x", "get_time", ROME)]],
    ],
)
def test_one_tool_may_be_called_twice(shape: list[list[dict[str, Any]]]) -> None:
    assert named(calls_in(*shape)) == SAME_TOOL


@pytest.mark.parametrize("chunks", [[[piece(ABSENT, None, "get_time"), piece(ABSENT, None, "get_time")]]])
def test_two_calls_without_arguments_in_one_chunk_are_two(chunks: list[list[dict[str, Any]]]) -> None:
    assert named(calls_in(*chunks)) == [("get_time", {}), ("get_time", {})]


def test_the_single_function_call_of_older_servers_is_a_call() -> None:
    fragments = ToolFragments(NAMES)
    for called in ({"name": "get_time", "arguments": '{"city": '}, {"arguments": '"Paris"}'}):
        fragments.add(delta_of_json({"function_call": called}).fragments)
    assert named(fragments.complete_calls(cut_off=False)) == BOTH[:1]


def test_a_single_call_needs_neither_a_list_nor_a_function_object() -> None:
    fragments = ToolFragments(NAMES)
    fragments.add(delta_of_json({"tool_calls": {"id": "a", "name": "get_time", "arguments": PARIS}}).fragments)
    assert named(fragments.complete_calls(cut_off=False)) == BOTH[:1]


@pytest.mark.parametrize("arguments", ["", "null", " \n", None, '""', "[]", "{}", "  {} ", '"{}"', {}])
def test_empty_arguments_in_any_form_are_an_empty_object(arguments: object) -> None:
    assert named(calls_in([piece(0, "a", "get_time", arguments)])) == [("get_time", {})]


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        (json.dumps(PARIS), {"city": "Paris"}),
        (PARIS * 2, {"city": "Paris"}),
        ('{"x": "a\nb"}', {"x": "a\nb"}),
        ('{"x": "a\u2028b\x0b"}', {"x": "a\u2028b\x0b"}),
        ('{"x": 1, "x": 2}', {"x": 2}),
        ('{"x": "\\ud83d\\ude00"}', {"x": "😀"}),
        ('{"x": 123456789012345678901234567890}', {"x": 123456789012345678901234567890}),
        ('{"x": 1.0, "y": 1e2}', {"x": 1.0, "y": 100.0}),
        ('{"a":' * 100 + "1" + "}" * 100, json.loads('{"a":' * 100 + "1" + "}" * 100)),
    ],
)
def test_arguments_with_one_possible_meaning_are_accepted(arguments: str, data: dict[str, Any]) -> None:
    assert named(calls_in([piece(0, "a", "get_time", arguments)])) == [("get_time", data)]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a":',
        "[1]",
        '"text"',
        "1",
        "true",
        '{"x": NaN}',
        '{"x": Infinity}',
        '{"x": 1e400}',
        '{"x": ' + "9" * 5000 + "}",
        '{"city": "Paris",}',
        '{"a":' * 100_000,
        {"x": float("nan")},
    ],
)
def test_arguments_that_are_not_a_valid_object_are_an_error(arguments: object) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        calls_in([piece(0, "a", "get_time", arguments)])


def test_a_call_without_a_name_is_an_error() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        calls_in([piece(0, "a", None, PARIS)])


def test_the_extra_content_of_a_call_is_kept_in_a_form_that_can_be_stored() -> None:
    signed = {**piece(0, "a", "get_time", PARIS), "extra_content": {"google": {"thought_signature": "c2ln\0"}}}
    plain = piece(1, "b", "get_weather", ROME)
    first, second = calls_in([signed], [plain])
    assert first.extra_content == {"google": {"thought_signature": "c2ln\ufffd"}}
    assert second.extra_content is None


def test_too_many_calls_are_an_error() -> None:
    with pytest.raises(ModelError, match="too many"):
        calls_in(*([piece(at, f"call_{at}", "get_time")] for at in range(1001)))
