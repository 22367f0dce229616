"""Tools: the client gets a model's calls, and its results continue the same turn."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api, frames_of
from tests.support.http.resources import check_conversation, check_message, check_position, check_problem, check_turn
from tests.support.http.tool_turns import ADD, ANSWER, CALLS, FIND, RESULTS, replayed, results_path, sent, waiting
from tests.support.models.model_scripts import Hang, Script, ToolFragment, usage
from tests.support.models.model_server import ModelServer
from tests.support.waiting import eventually

ADDED = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
FOUND = {"type": "tool_use", "id": "call_2", "name": "find", "input": {"q": "x"}}


def test_a_turn_stops_at_its_calls_and_continues_with_their_results(
    api: Api, id_: str, calling_model: str, models: ModelServer
) -> None:
    response = api.turn(id_, calling_model, content="How much?", tools=[ADD, FIND])
    assert response.status_code == 201
    check_position(response)
    question, turn, calls = (response.json()[key] for key in ("user_message", "turn", "assistant_message"))
    check_turn(turn)
    check_message(calls)
    assert (turn["status"], turn["ended_at"], turn["message_id"]) == ("requires_action", None, calls["id"])
    assert calls["content"] == [{"type": "text", "text": "Let me see."}, ADDED, FOUND]
    assert (calls["status"], calls["finish_reason"]) == ("completed", "tool_use")
    conversation = api.get(f"/v1/conversations/{id_}")
    check_conversation(conversation)
    assert (conversation["status"], conversation["active_turn_id"]) == ("requires_action", turn["id"])
    assert api.get(f"/v1/conversations/{id_}/turns/{turn['id']}") == turn

    response = api.http.post(results_path(turn), json={"results": RESULTS})
    assert response.status_code == 200
    check_position(response)
    whole = response.json()
    check_turn(whole["turn"])
    check_message(whole["assistant_message"])
    assert whole["user_message"] == question
    assert whole["assistant_message"]["content"] == [{"type": "text", "text": "It is 3."}]
    assert whole["turn"].items() >= {"id": turn["id"], "status": "completed", "finish_reason": "stop"}.items()
    assert whole["turn"]["message_id"] == whole["assistant_message"]["id"] != calls["id"]
    assert (whole["turn"]["usage"]["input_tokens"], whole["turn"]["usage"]["output_tokens"]) == (40, 10)
    assert whole["turn"]["time_to_first_token_ms"] == turn["time_to_first_token_ms"]
    assert whole["turn"]["duration_ms"] > turn["duration_ms"] > 0

    shown = api.messages(id_)
    assert [message["role"] for message in shown] == ["user", "assistant", "tool", "assistant"]
    assert {message["turn_id"] for message in shown} == {turn["id"]}
    assert shown[2]["content"] == [{"type": "tool_result", "is_error": False, **result} for result in RESULTS]
    assert api.get(f"/v1/conversations/{id_}")["status"] == "idle"
    first, second = sent(models, calling_model)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["add", "find"]
    assert first["tools"][0]["function"]["parameters"] == ADD["input_schema"]
    assert second["tools"] == first["tools"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in second["messages"][1]["tool_calls"]] == ["call_1", "call_2"]
    assert json.loads(second["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert second["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "3"}


def test_the_frames_continue_after_the_calls_live_and_replayed(api: Api, id_: str, calling_model: str) -> None:
    with api.stream(id_, calling_model, tools=[ADD, FIND]) as turn:
        seen = list(turn.frames)
    ids = {key: seen[0].data[key] for key in ("conversation_id", "turn_id")}
    names = ["turn.started", "delta", "delta", "block.done", "tool_use", "tool_use", "turn.requires_action"]
    assert [frame.event for frame in seen] == names
    assert seen[4].data == {**ids, "seq": 5, "block_index": 1, "tool_use": ADDED}
    assert seen[5].data == {**ids, "seq": 6, "block_index": 2, "tool_use": FOUND}
    assert seen[6].data == {**ids, "seq": 7, "tool_uses": [ADDED, FOUND]}
    waits = {"conversation_id": id_, "id": ids["turn_id"]}
    assert replayed(api, waits) == seen

    with api.http.stream("POST", results_path(waits), json={"results": RESULTS, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        rest = list(frames_of(response))
    assert [frame.event for frame in rest] == ["delta", "delta", "block.done", "turn.completed"]
    assert [frame.data["seq"] for frame in [*seen, *rest]] == list(range(1, 12))
    assert [frame.data["block_index"] for frame in rest[:3]] == [3, 3, 3]
    assert rest[-1].data["message"] == api.messages(id_)[-1]
    assert replayed(api, waits) == [*seen, *rest]
    assert replayed(api, waits, 7) == rest
    assert replayed(api, waits, 5) == [*seen[5:], *rest]


def test_a_client_that_saw_a_turn_wait_gets_its_further_frames(api: Api, id_: str, calling_model: str) -> None:
    turn = waiting(api, id_, calling_model)
    with ThreadPoolExecutor(1) as threads:
        later = threads.submit(replayed, api, turn, 7)
        whole = api.http.post(results_path(turn), json={"results": RESULTS}).json()
        rest = later.result()
    assert [frame.event for frame in rest] == ["delta", "delta", "block.done", "turn.completed"]
    assert rest[-1].data["turn"] == whole["turn"]


def test_a_turn_may_call_tools_repeatedly(api: Api, id_: str, given_model: GivenModel) -> None:
    again = Script([ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls", usage=usage(5, 5))
    model = given_model(CALLS, again, ANSWER)
    turn = waiting(api, id_, model)
    second = api.http.post(results_path(turn), json={"results": RESULTS}).json()["turn"]
    assert second["status"] == "requires_action"
    assert second["usage"]["output_tokens"] == 9
    last = api.http.post(results_path(turn), json={"results": RESULTS[:1]}).json()["turn"]
    assert (last["status"], last["usage"]["output_tokens"]) == ("completed", 15)
    frames = replayed(api, turn)
    assert [frame.data["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame.event for frame in frames].count("turn.requires_action") == 2


def test_a_feed_shows_a_turn_through_its_calls(api: Api, id_: str, calling_model: str) -> None:
    with api.http.stream("GET", f"/v1/conversations/{id_}/events") as response:
        lines = response.iter_lines()
        turn = waiting(api, id_, calling_model)
        api.http.post(results_path(turn), json={"results": RESULTS})
        seen: list[str] = []
        while "turn.completed" not in seen or "TurnCompleted" not in seen:
            line = next(lines)
            seen += [line.removeprefix("event: ")] if line.startswith("event: ") else []
    frames = [name for name in seen if name[0].islower()]
    assert frames == [frame.event for frame in replayed(api, turn)]
    facts = ["MessageAdded", "TurnStarted", "MessageAdded", "TurnSuspended", "MessageAdded", "TurnResumed"]
    assert [name for name in seen if name[0].isupper() and name != "StreamDelta"] == [
        *facts,
        "MessageAdded",
        "TurnCompleted",
    ]


def test_the_text_so_far_is_that_of_the_running_answer(api: Api, id_: str, given_model: GivenModel) -> None:
    turn = waiting(api, id_, given_model(CALLS, Script(["It ", "is", Hang()])))
    with api.http.stream("POST", results_path(turn), json={"results": RESULTS, "stream": True}) as response:
        frames = frames_of(response)
        assert [next(frames).data["text"] for _ in range(2)] == ["It ", "is"]
        text = [{"type": "text", "text": "It is"}]
        streaming = eventually(lambda: [message for message in api.messages(id_) if message["content"] == text])
        assert streaming[0]["status"] == "streaming"
        assert len(api.messages(id_)) == 4
        api.http.post(results_path(turn).replace("tool_results", "cancel"))
        assert [frame.event for frame in frames] == ["block.done", "turn.cancelled"]


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "a b", "input_schema": {}}],
        [{"name": "", "input_schema": {}}],
        [{"name": "a"}],
        [{"name": "a", "input_schema": []}],
        [ADD, ADD],
        [{"name": f"t{number}", "input_schema": {}} for number in range(129)],
        {"name": "a"},
    ],
)
def test_invalid_tools_are_refused(api: Api, id_: str, tools: Any) -> None:
    check_problem(api.turn(id_, "default", tools=tools), 422, "VALIDATION_FAILED", "errors")
