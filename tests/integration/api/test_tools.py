"""Tools: what a model calls is handed to the client, whose results let the same turn go on, and no call stays open."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.api_client import Api, Frame, frames_of
from tests.support.model_scripts import BreakOff, Hang, Pause, Script, ToolFragment, usage
from tests.support.model_server import ModelServer
from tests.support.resources import check_conversation, check_message, check_position, check_problem, check_turn
from tests.support.store import rows
from tests.support.waiting import eventually
from turns import leases, tail
from turns.turn_log import TurnReader

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
ADDED = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
FOUND = {"type": "tool_use", "id": "call_2", "name": "find", "input": {"q": "x"}}

Post = Callable[..., httpx.Response]


@pytest.fixture
def id_(api: Api) -> str:
    return api.conversation()["id"]


@pytest.fixture
def model(given_model: GivenModel) -> str:
    return given_model(CALLS, ANSWER)


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


def test_a_turn_stops_at_its_calls_and_goes_on_with_their_results(
    api: Api, id_: str, model: str, models: ModelServer
) -> None:
    response = api.turn(id_, model, content="How much?", tools=[ADD, FIND])
    assert response.status_code == 201
    check_position(response)
    asked, turn, calls = (response.json()[key] for key in ("user_message", "turn", "assistant_message"))
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
    assert whole["user_message"] == asked
    assert whole["assistant_message"]["content"] == [{"type": "text", "text": "It is 3."}]
    assert whole["turn"].items() >= {"id": turn["id"], "status": "completed", "finish_reason": "stop"}.items()
    assert whole["turn"]["message_id"] == whole["assistant_message"]["id"] != calls["id"]
    assert (whole["turn"]["usage"]["input_tokens"], whole["turn"]["usage"]["output_tokens"]) == (40, 10)
    assert whole["turn"]["time_to_first_token_ms"] == turn["time_to_first_token_ms"]
    assert whole["turn"]["duration_ms"] > turn["duration_ms"] > 0

    said = api.messages(id_)
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant"]
    assert {message["turn_id"] for message in said} == {turn["id"]}
    assert said[2]["content"] == [{"type": "tool_result", "is_error": False, **result} for result in RESULTS]
    assert api.get(f"/v1/conversations/{id_}")["status"] == "idle"
    first, second = sent(models, model)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["add", "find"]
    assert first["tools"][0]["function"]["parameters"] == ADD["input_schema"]
    assert second["tools"] == first["tools"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in second["messages"][1]["tool_calls"]] == ["call_1", "call_2"]
    assert json.loads(second["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert second["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "3"}


def test_its_frames_go_on_where_they_stopped_live_and_replayed(api: Api, id_: str, model: str) -> None:
    with api.stream(id_, model, tools=[ADD, FIND]) as turn:
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


def test_who_has_seen_that_a_turn_waits_is_shown_how_it_goes_on(api: Api, id_: str, model: str) -> None:
    turn = waiting(api, id_, model)
    with ThreadPoolExecutor(1) as threads:
        later = threads.submit(replayed, api, turn, 7)
        whole = api.http.post(results_path(turn), json={"results": RESULTS}).json()
        rest = later.result()
    assert [frame.event for frame in rest] == ["delta", "delta", "block.done", "turn.completed"]
    assert rest[-1].data["turn"] == whole["turn"]


@pytest.mark.parametrize(
    ("results", "loc"),
    [
        (RESULTS[:1], ["results"]),
        ([*RESULTS, {"tool_use_id": "call_3", "content": "x"}], ["results", 2, "tool_use_id"]),
        ([*RESULTS, RESULTS[0]], ["results", 2, "tool_use_id"]),
        ([], ["results"]),
        ([{"tool_use_id": "call_1"}], ["results", 0, "content"]),
    ],
)
def test_results_that_are_not_those_of_the_open_calls_are_refused(
    api: Api, id_: str, model: str, results: list[Any], loc: list[Any]
) -> None:
    turn = waiting(api, id_, model)
    response = api.http.post(results_path(turn), json={"results": results})
    problem = check_problem(response, 422, "VALIDATION_FAILED", "errors")
    assert problem["errors"][0]["loc"][-len(loc) :] == loc
    assert api.http.post(results_path(turn), json={"results": RESULTS}).status_code == 200


def test_only_a_turn_that_waits_takes_results(api: Api, id_: str, model: str, given_model: GivenModel) -> None:
    turn = waiting(api, id_, model)
    assert api.http.post(results_path(turn), json={"results": RESULTS}).status_code == 200
    check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")
    unknown = {**turn, "id": id_}
    check_problem(api.http.post(results_path(unknown), json={"results": RESULTS}), 404, "TURN_NOT_FOUND")
    with api.stream(id_, given_model([Hang()])) as running:
        key = next(running.frames).data
        path = results_path({"conversation_id": id_, "id": key["turn_id"]})
        check_problem(api.http.post(path, json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")
        api.http.post(path.replace("tool_results", "cancel"))


def test_results_are_taken_once_of_two_clients_and_repeated_with_their_key(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    turn = waiting(api, id_, given_model(CALLS, Script([Pause(0.2), "It is 3."])))
    key = {"Idempotency-Key": f"results-{turn['id']}"}
    with ThreadPoolExecutor(2) as threads:
        racing = [
            threads.submit(api.http.post, results_path(turn), json={"results": RESULTS}, headers=headers)
            for headers in (key, {})
        ]
    by_status = {future.result().status_code: future.result() for future in racing}
    assert set(by_status) == {200, 409}
    if racing[0].result().status_code == 200:
        again = api.http.post(results_path(turn), json={"results": RESULTS}, headers=key)
        assert again.json() == racing[0].result().json()
    assert [message["role"] for message in api.messages(id_)] == ["user", "assistant", "tool", "assistant"]


def test_a_repeated_request_gets_the_first_answer_though_the_turn_went_on(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    again = Script([ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls", usage=usage(5, 5))
    model = given_model(CALLS, again, ANSWER)
    turns = f"/v1/conversations/{id_}/turns"
    asked = (turns, {"content": "Hi", "model": model}, {"Idempotency-Key": f"first-{id_}"})
    first = api.http.post(asked[0], json=asked[1], headers=asked[2])
    path = results_path(first.json()["turn"])
    given = (path, {"results": RESULTS}, {"Idempotency-Key": f"second-{id_}"})
    second = api.http.post(given[0], json=given[1], headers=given[2])
    api.http.post(path, json={"results": RESULTS[:1]})
    for answer, (url, body, key) in ((first, asked), (second, given)):
        repeated = api.http.post(url, json=body, headers=key)
        assert (repeated.status_code, repeated.json()) == (answer.status_code, answer.json())
        assert repeated.headers["turnlog-position"] == answer.headers["turnlog-position"]


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
def test_a_call_that_is_nested_too_deep_fails_the_turn(
    api: Api, id_: str, given_model: GivenModel, arguments: str
) -> None:
    calls = Script([ToolFragment(0, "call_1", "add", arguments)], finish_reason="tool_calls")
    problem = check_problem(
        api.turn(id_, given_model(calls)), 502, "MODEL_ERROR", "conversation_id", "turn_id", "error"
    )
    assert "tool call that cannot be" in problem["detail"]


def test_calls_whose_ids_are_stored_as_one_are_told_apart(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = [ToolFragment(0, "a\0", "add", "{}"), ToolFragment(1, "a\ufffd", "add", "{}")]
    message = waiting_for(api, id_, given_model(Script(calls, finish_reason="tool_calls"), ANSWER))
    ids = [call["id"] for call in message["content"]]
    assert len(set(ids)) == 2
    path = results_path({"conversation_id": id_, "id": message["turn_id"]})
    results = [{"tool_use_id": call, "content": "3"} for call in ids]
    assert api.http.post(path, json={"results": results}).json()["turn"]["status"] == "completed"


def test_more_calls_than_anybody_can_answer_fail_the_turn(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = [ToolFragment(number, f"call_{number}", "add", "{}") for number in range(1001)]
    response = api.turn(id_, given_model(Script(calls, finish_reason="tool_calls")))
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")


def test_a_repeated_stream_of_results_attaches_to_the_first(api: Api, id_: str, model: str) -> None:
    turn = waiting(api, id_, model)
    key = {"Idempotency-Key": f"stream-{turn['id']}"}
    body = {"results": RESULTS, "stream": True}
    seen: list[list[Frame]] = []
    for _ in range(2):
        with api.http.stream("POST", results_path(turn), json=body, headers=key) as response:
            seen.append(list(frames_of(response)))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4


def test_calls_follow_on_calls(api: Api, id_: str, given_model: GivenModel) -> None:
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


@pytest.mark.parametrize("route", ["turns", "messages"])
def test_a_new_message_closes_open_calls_and_their_turn(
    api: Api, id_: str, model: str, models: ModelServer, route: str
) -> None:
    turn = waiting(api, id_, model)
    body: dict[str, Any] = {"content": "Never mind", **({"model": model} if route == "turns" else {"role": "user"})}
    response = api.http.post(f"/v1/conversations/{id_}/{route}", json=body)
    assert response.status_code == 201, response.text
    ended = api.get(f"/v1/conversations/{id_}/turns/{turn['id']}")
    assert (ended["status"], ended["usage"]) == ("cancelled", turn["usage"])
    last = replayed(api, turn)[-1]
    assert (last.event, last.data["turn"]) == ("turn.cancelled", ended)
    closed, said = api.messages(id_)[2:4]
    assert [(result["tool_use_id"], result["is_error"]) for result in closed["content"]] == [
        ("call_1", True),
        ("call_2", True),
    ]
    assert (closed["role"], said["content"]) == ("tool", [{"type": "text", "text": "Never mind"}])
    if route == "messages":
        assert response.json() == said
        assert api.turn(id_, model).status_code == 201
    roles = [message["role"] for message in sent(models, model)[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]


def test_a_message_of_another_role_does_not_push_a_waiting_turn_aside(api: Api, id_: str, model: str) -> None:
    turn = waiting(api, id_, model)
    for role, content in (("system", "Be brief."), ("assistant", "Done."), ("tool", [])):
        response = api.http.post(f"/v1/conversations/{id_}/messages", json={"role": role, "content": content})
        assert check_problem(response, 409, "CONVERSATION_LOCKED", "active_turn_id")["active_turn_id"] == turn["id"]


def test_a_cancel_closes_open_calls(api: Api, id_: str, model: str) -> None:
    turn = waiting(api, id_, model)
    cancelled = api.http.post(results_path(turn).replace("tool_results", "cancel"))
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    roles = [message["role"] for message in api.messages(id_)]
    assert roles == ["user", "assistant", "tool"]
    check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")


def test_a_model_that_breaks_after_the_results_fails_the_turn_and_no_call_is_open(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(CALLS, Script(["It", BreakOff()]), ANSWER)
    turn = waiting(api, id_, model)
    response = api.http.post(results_path(turn), json={"results": RESULTS})
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    assert [message["status"] for message in api.messages(id_)] == ["completed"] * 3 + ["interrupted"]
    assert api.turn(id_, model).status_code == 201
    roles = [message["role"] for message in sent(models, model)[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]


def test_a_model_that_breaks_while_it_calls_leaves_no_call(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(Script(["Hm", ToolFragment(0, "call_1", "add", '{"a":'), BreakOff()]), ANSWER)
    check_problem(api.turn(id_, model, tools=[ADD]), 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    assert api.messages(id_)[-1]["content"] == [{"type": "text", "text": "Hm"}]
    assert api.turn(id_, model).json()["turn"]["status"] == "completed"


def test_what_a_database_cannot_hold_is_replaced_in_a_call(api: Api, id_: str, given_model: GivenModel) -> None:
    arguments = '{"a\\u0000": ["b\\u0000", "\\ud83d"]}'
    calls = [ToolFragment(0, "call\0_1", "add", arguments)]
    turn = waiting_for(api, id_, given_model(Script(calls, finish_reason="tool_calls"), ANSWER))
    (call,) = turn["content"]
    assert call["input"] == {"a\ufffd": ["b\ufffd", "\ufffd"]}
    results = [{"tool_use_id": call["id"], "content": ""}]
    path = results_path({"conversation_id": id_, "id": turn["turn_id"]})
    assert api.http.post(path, json={"results": results}).status_code == 200


def waiting_for(api: Api, id_: str, model: str) -> dict[str, Any]:
    """Return the message whose calls a turn waits for."""
    return api.turn(id_, model, tools=[ADD]).json()["assistant_message"]


def test_calls_of_one_id_are_told_apart(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = [ToolFragment(0, "same", "add", "{}"), ToolFragment(1, "same", "add", "{}")]
    message = waiting_for(api, id_, given_model(Script(calls, finish_reason="tool_calls")))
    assert len({call["id"] for call in message["content"]}) == 2


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
def test_tools_that_are_none_are_refused(api: Api, id_: str, tools: Any) -> None:
    check_problem(api.turn(id_, "default", tools=tools), 422, "VALIDATION_FAILED", "errors")


def test_results_may_be_given_to_any_server(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    model = given_model(CALLS, ANSWER)
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        turn = waiting(here, id_, model)
        whole = there.http.post(results_path(turn), json={"results": RESULTS})
        assert (whole.status_code, whole.json()["turn"]["status"]) == (200, "completed")
        assert replayed(here, turn) == replayed(there, turn)


def test_a_waiting_turn_outlives_its_server(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    model = given_model(CALLS, ANSWER)
    with serve(database_url) as before:
        turn = waiting(before, before.conversation()["id"], model)
    with serve(database_url) as after:
        path = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}"
        assert after.get(path) == turn
        whole = after.http.post(results_path(turn), json={"results": RESULTS}).json()
        assert whole["turn"]["status"] == "completed"


def test_results_that_are_refused_leave_the_lease_of_the_turn_alone(
    database_url: str, serve: Serve, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_INTERVAL_S", 0.05)
    with serve(database_url) as api:
        turn = waiting(api, api.conversation()["id"], given_model(CALLS, Script(["It", Hang()])))
        with api.http.stream("POST", results_path(turn), json={"results": RESULTS, "stream": True}) as response:
            frames = frames_of(response)
            assert next(frames).event == "delta"
            check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")
            expiry = "SELECT expires_at FROM leases WHERE turn_id = %s"
            seen = rows(database_url, expiry, [turn["id"]])
            eventually(lambda: rows(database_url, expiry, [turn["id"]]) > seen)
            api.http.post(results_path(turn).replace("tool_results", "cancel"))


@pytest.mark.parametrize("size", range(1, 12))
def test_a_replay_does_not_end_at_calls_that_were_answered_however_it_is_read(
    database_url: str, serve: Serve, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    read = TurnReader.read

    async def slowly(*arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.02)
        return await read(*arguments, **options)

    with serve(database_url) as api:
        turn = waiting(api, api.conversation()["id"], given_model(CALLS, ANSWER))
        api.http.post(results_path(turn), json={"results": RESULTS})
        whole = replayed(api, turn)
        assert whole[-1].event == "turn.completed"
        monkeypatch.setattr(TurnReader, "read", slowly)
        monkeypatch.setattr(tail, "FIRST_PAGE_EVENTS", size)
        monkeypatch.setattr(tail, "PAGE_EVENTS", 3)
        assert replayed(api, turn) == whole


def test_a_server_that_ends_does_not_wait_for_readers_of_a_waiting_turn(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    with httpx.Client(timeout=30) as reader, ExitStack() as reading:
        with serve(database_url) as api:
            turn = waiting(api, api.conversation()["id"], given_model(CALLS))
            url = api.http.base_url.join(results_path(turn).replace("tool_results", "stream"))
            answer = reading.enter_context(reader.stream("GET", url, headers={"Last-Event-ID": "7"}))
            assert answer.status_code == 200
            began = monotonic()
        assert monotonic() - began < 3
        assert list(frames_of(answer)) == []


def test_a_feed_shows_a_turn_through_its_calls(api: Api, id_: str, model: str) -> None:
    with api.http.stream("GET", f"/v1/conversations/{id_}/events") as response:
        lines = response.iter_lines()
        turn = waiting(api, id_, model)
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


def test_a_deleted_conversation_ends_its_waiting_turn(api: Api, id_: str, model: str) -> None:
    turn = waiting(api, id_, model)
    assert api.http.delete(f"/v1/conversations/{id_}").status_code == 204
    check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 410, "CONVERSATION_DELETED")
    assert [event["type"] for event in api.events(id_)][-2:] == ["TurnCancelled", "ConversationDeleted"]


def test_the_text_so_far_is_that_of_the_running_answer(api: Api, id_: str, given_model: GivenModel) -> None:
    turn = waiting(api, id_, given_model(CALLS, Script(["It ", "is", Hang()])))
    with api.http.stream("POST", results_path(turn), json={"results": RESULTS, "stream": True}) as response:
        frames = frames_of(response)
        assert [next(frames).data["text"] for _ in range(2)] == ["It ", "is"]
        text = [{"type": "text", "text": "It is"}]
        streaming = eventually(lambda: [said for said in api.messages(id_) if said["content"] == text])
        assert streaming[0]["status"] == "streaming"
        assert len(api.messages(id_)) == 4
        api.http.post(results_path(turn).replace("tool_results", "cancel"))
        assert [frame.event for frame in frames] == ["block.done", "turn.cancelled"]
