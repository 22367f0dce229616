"""Every end of a turn that waits for results closes its open calls."""

from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ANSWER, CALLS, RESULTS, replayed, results_path, sent, waiting
from tests.support.models.model_scripts import BreakOff, Script
from tests.support.models.model_server import ModelServer


@pytest.mark.parametrize("route", ["turns", "messages"])
def test_a_new_message_closes_open_calls_and_their_turn(
    api: Api, id_: str, calling_model: str, models: ModelServer, route: str
) -> None:
    turn = waiting(api, id_, calling_model)
    body: dict[str, Any] = {
        "content": "Never mind",
        **({"model": calling_model} if route == "turns" else {"role": "user"}),
    }
    response = api.http.post(f"/v1/conversations/{id_}/{route}", json=body)
    assert response.status_code == 201, response.text
    ended = api.get(f"/v1/conversations/{id_}/turns/{turn['id']}")
    assert (ended["status"], ended["usage"]) == ("cancelled", turn["usage"])
    last = replayed(api, turn)[-1]
    assert (last.event, last.data["turn"]) == ("turn.cancelled", ended)
    closed, new_message = api.messages(id_)[2:4]
    assert [(result["tool_use_id"], result["is_error"]) for result in closed["content"]] == [
        ("call_1", True),
        ("call_2", True),
    ]
    assert (closed["role"], new_message["content"]) == ("tool", [{"type": "text", "text": "Never mind"}])
    if route == "messages":
        assert response.json() == new_message
        assert api.turn(id_, calling_model).status_code == 201
    roles = [message["role"] for message in sent(models, calling_model)[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user"]


def test_a_message_of_another_role_does_not_end_a_waiting_turn(api: Api, id_: str, calling_model: str) -> None:
    turn = waiting(api, id_, calling_model)
    for role, content in (("system", "Be brief."), ("assistant", "Done."), ("tool", [])):
        response = api.http.post(f"/v1/conversations/{id_}/messages", json={"role": role, "content": content})
        assert check_problem(response, 409, "CONVERSATION_LOCKED", "active_turn_id")["active_turn_id"] == turn["id"]


def test_a_cancel_closes_open_calls(api: Api, id_: str, calling_model: str) -> None:
    turn = waiting(api, id_, calling_model)
    cancelled = api.http.post(results_path(turn).replace("tool_results", "cancel"))
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    roles = [message["role"] for message in api.messages(id_)]
    assert roles == ["user", "assistant", "tool"]
    check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")


def test_a_model_error_after_the_results_fails_the_turn_and_leaves_no_open_call(
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


def test_a_deleted_conversation_ends_its_waiting_turn(api: Api, id_: str, calling_model: str) -> None:
    turn = waiting(api, id_, calling_model)
    assert api.http.delete(f"/v1/conversations/{id_}").status_code == 204
    check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 410, "CONVERSATION_DELETED")
    assert [event["type"] for event in api.events(id_)][-2:] == ["TurnCancelled", "ConversationDeleted"]
