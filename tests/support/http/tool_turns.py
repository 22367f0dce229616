"""Turns whose model calls two tools and then answers with their results."""

from typing import Any

from tests.support.http.api_client import Api, Frame, frames_of
from tests.support.models.model_scripts import Script, ToolFragment, usage
from tests.support.models.model_server import ModelServer

ADD = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {"n": {}}}}
FIND = {"name": "find", "input_schema": {"type": "object"}}
CALLS = Script(
    [
        "Let me ",
        "see.",
        ToolFragment(0, "call_1", "add", '{"a":'),
        ToolFragment(1, "call_2", "find", '{"q": "x"'),
        ToolFragment(0, arguments=" 1}"),
        ToolFragment(1, arguments="}"),
    ],
    finish_reason="tool_calls",
    usage=usage(10, 4),
)
ANSWER = Script(["It is ", "3."], usage=usage(30, 6))
RESULTS = [{"tool_use_id": "call_1", "content": "3"}, {"tool_use_id": "call_2", "content": "{}", "is_error": True}]


def results_path(turn: dict[str, Any]) -> str:
    return f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}/tool_results"


def waiting(api: Api, id_: str, model: str) -> dict[str, Any]:
    """Return a turn that waits for the results of both calls."""
    response = api.turn(id_, model, tools=[ADD, FIND])
    assert response.status_code == 201, response.text
    turn = response.json()["turn"]
    assert turn["status"] == "requires_action"
    return turn


def replayed(api: Api, turn: dict[str, Any], after: int = 0) -> list[Frame]:
    path = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}/stream"
    with api.http.stream("GET", path, headers={"Last-Event-ID": str(after)}) as response:
        return list(frames_of(response))


def sent(models: ModelServer, model: str) -> list[dict[str, Any]]:
    return [request.body for request in models.requests if request.model == model]
