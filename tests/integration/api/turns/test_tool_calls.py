"""Tool calls of models: any number, id and text is shown and stored.

Calls that cannot be answered fail the turn.
"""

from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ADD, ANSWER, replayed, results_path
from tests.support.models.model_scripts import BreakOff, Script, ToolFragment


def waiting_for(api: Api, id_: str, model: str) -> dict[str, Any]:
    """Return the message whose calls the turn waits for."""
    return api.turn(id_, model, tools=[ADD]).json()["assistant_message"]


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1e20", "1.5e300", "-0.0"])
def test_any_number_in_a_call_is_shown_live_and_replayed(
    api: Api, id_: str, given_model: GivenModel, number: str
) -> None:
    calls = Script([ToolFragment(0, "call_1", "add", f'{{"n":{number}}}')], finish_reason="tool_calls")
    with api.stream(id_, given_model(calls)) as turn:
        seen = list(turn.frames)
    assert replayed(api, {"conversation_id": id_, "id": seen[0].data["turn_id"]}) == seen
    assert float(seen[1].data["tool_use"]["input"]["n"]) == float(number)


@pytest.mark.parametrize("arguments", ['{"a":' * 500 + "1" + "}" * 500, '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_a_call_that_is_nested_too_deeply_fails_the_turn(
    api: Api, id_: str, given_model: GivenModel, arguments: str
) -> None:
    calls = Script([ToolFragment(0, "call_1", "add", arguments)], finish_reason="tool_calls")
    problem = check_problem(
        api.turn(id_, given_model(calls)), 502, "MODEL_ERROR", "conversation_id", "turn_id", "error"
    )
    assert "tool call that cannot be" in problem["detail"]


def test_calls_with_the_same_id_get_different_ids(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = [ToolFragment(0, "same", "add", "{}"), ToolFragment(1, "same", "add", "{}")]
    message = waiting_for(api, id_, given_model(Script(calls, finish_reason="tool_calls")))
    assert len({call["id"] for call in message["content"]}) == 2


def test_calls_whose_ids_are_stored_alike_get_different_ids(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = [ToolFragment(0, "a\0", "add", "{}"), ToolFragment(1, "a\ufffd", "add", "{}")]
    message = waiting_for(api, id_, given_model(Script(calls, finish_reason="tool_calls"), ANSWER))
    ids = [call["id"] for call in message["content"]]
    assert len(set(ids)) == 2
    path = results_path({"conversation_id": id_, "id": message["turn_id"]})
    results = [{"tool_use_id": call, "content": "3"} for call in ids]
    assert api.http.post(path, json={"results": results}).json()["turn"]["status"] == "completed"


def test_too_many_calls_fail_the_turn(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = [ToolFragment(number, f"call_{number}", "add", "{}") for number in range(1001)]
    response = api.turn(id_, given_model(Script(calls, finish_reason="tool_calls")))
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")


def test_a_model_that_breaks_during_a_call_leaves_no_call(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(Script(["Hm", ToolFragment(0, "call_1", "add", '{"a":'), BreakOff()]), ANSWER)
    check_problem(api.turn(id_, model, tools=[ADD]), 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    assert api.messages(id_)[-1]["content"] == [{"type": "text", "text": "Hm"}]
    assert api.turn(id_, model).json()["turn"]["status"] == "completed"


def test_characters_that_the_database_cannot_store_are_replaced_in_a_call(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    arguments = '{"a\\u0000": ["b\\u0000", "\\ud83d"]}'
    calls = [ToolFragment(0, "call\0_1", "add", arguments)]
    turn = waiting_for(api, id_, given_model(Script(calls, finish_reason="tool_calls"), ANSWER))
    (call,) = turn["content"]
    assert call["input"] == {"a\ufffd": ["b\ufffd", "\ufffd"]}
    results = [{"tool_use_id": call["id"], "content": ""}]
    path = results_path({"conversation_id": id_, "id": turn["turn_id"]})
    assert api.http.post(path, json={"results": results}).status_code == 200
