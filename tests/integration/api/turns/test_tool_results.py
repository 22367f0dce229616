"""Tool results: which are accepted, when, and how requests are repeated."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api, Frame, frames_of
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ANSWER, CALLS, RESULTS, results_path, waiting
from tests.support.models.model_scripts import Hang, Pause, Script, ToolFragment, usage


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
def test_results_that_do_not_match_the_open_calls_are_refused(
    api: Api, id_: str, calling_model: str, results: list[Any], loc: list[Any]
) -> None:
    turn = waiting(api, id_, calling_model)
    response = api.http.post(results_path(turn), json={"results": results})
    problem = check_problem(response, 422, "VALIDATION_FAILED", "errors")
    assert problem["errors"][0]["loc"][-len(loc) :] == loc
    assert api.http.post(results_path(turn), json={"results": RESULTS}).status_code == 200


def test_only_a_waiting_turn_accepts_results(api: Api, id_: str, calling_model: str, given_model: GivenModel) -> None:
    turn = waiting(api, id_, calling_model)
    assert api.http.post(results_path(turn), json={"results": RESULTS}).status_code == 200
    check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")
    unknown = {**turn, "id": id_}
    check_problem(api.http.post(results_path(unknown), json={"results": RESULTS}), 404, "TURN_NOT_FOUND")
    with api.stream(id_, given_model([Hang()])) as running:
        key = next(running.frames).data
        path = results_path({"conversation_id": id_, "id": key["turn_id"]})
        check_problem(api.http.post(path, json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")
        api.http.post(path.replace("tool_results", "cancel"))


def test_results_of_two_clients_are_accepted_once_and_repeated_by_key(
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


def test_a_repeated_request_gets_the_first_answer_after_the_turn_continued(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    again = Script([ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls", usage=usage(5, 5))
    model = given_model(CALLS, again, ANSWER)
    turns = f"/v1/conversations/{id_}/turns"
    request = (turns, {"content": "Hi", "model": model}, {"Idempotency-Key": f"first-{id_}"})
    first = api.http.post(request[0], json=request[1], headers=request[2])
    path = results_path(first.json()["turn"])
    given = (path, {"results": RESULTS}, {"Idempotency-Key": f"second-{id_}"})
    second = api.http.post(given[0], json=given[1], headers=given[2])
    api.http.post(path, json={"results": RESULTS[:1]})
    for answer, (url, body, key) in ((first, request), (second, given)):
        repeated = api.http.post(url, json=body, headers=key)
        assert (repeated.status_code, repeated.json()) == (answer.status_code, answer.json())
        assert repeated.headers["turnlog-position"] == answer.headers["turnlog-position"]


def test_a_repeated_stream_of_results_attaches_to_the_first(api: Api, id_: str, calling_model: str) -> None:
    turn = waiting(api, id_, calling_model)
    key = {"Idempotency-Key": f"stream-{turn['id']}"}
    body = {"results": RESULTS, "stream": True}
    seen: list[list[Frame]] = []
    for _ in range(2):
        with api.http.stream("POST", results_path(turn), json=body, headers=key) as response:
            seen.append(list(frames_of(response)))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
