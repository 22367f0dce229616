"""Positions on writes and reads, and answers while a read model is stopped."""

from collections.abc import Sequence
from typing import Any

import pytest

from api.http import read_your_writes
from domain.events import ConversationEvent
from projections.models.history import HistoryProjection
from projections.projection import Change
from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_position, check_problem
from tests.support.models.model_scripts import Hang
from tests.support.waiting import eventually


def test_positions_count_the_events_of_the_log(fresh_api: Api) -> None:
    def position(method: str, path: str, body: Any = None) -> int:
        return check_position(fresh_api.http.request(method, path, json=body))

    path = "/v1/conversations"
    assert position("POST", path, {"messages": [{"role": "user", "content": "x"}] * 2}) == 3
    id_ = fresh_api.get(path)["data"][0]["id"]
    assert position("PATCH", f"{path}/{id_}", {"title": "T"}) == 4
    assert position("POST", f"{path}/{id_}/messages", {"role": "user", "content": "x"}) == 5
    message = fresh_api.messages(id_)[0]
    assert position("DELETE", f"{path}/{id_}/messages/{message['id']}") == 6
    assert position("DELETE", f"{path}/{id_}") == 7
    assert position("POST", path, {}) == 8
    assert position("DELETE", path) == 9


def test_the_position_of_a_whole_turn_is_that_of_its_end(api: Api, given_model: GivenModel) -> None:
    id_ = api.conversation()["id"]
    response = api.turn(id_, given_model(["Hello"]))
    last = api.events(id_)[-1]
    assert (last["type"], last["position"]) == ("TurnCompleted", check_position(response))


def test_the_position_of_a_streamed_turn_is_that_of_its_start(api: Api, given_model: GivenModel) -> None:
    id_ = api.conversation()["id"]
    with api.stream(id_, given_model(["Hello"])) as turn:
        position = check_position(turn.response)
        list(turn.frames)
    started = api.events(id_)[2]
    assert (started["type"], started["position"]) == ("TurnStarted", position)


def test_every_write_can_be_read_at_once(api: Api) -> None:
    for number in range(30):
        id_ = api.conversation(title=str(number))["id"]
        assert api.get("/v1/conversations", limit=1)["data"][0]["id"] == id_
        message = api.message(id_)
        assert api.messages(id_) == [message]
        assert api.get(f"/v1/conversations/{id_}/context")["messages"] == [{"role": "user", "content": "Hi"}]
        assert api.http.delete(f"/v1/conversations/{id_}/messages/{message['id']}").status_code == 204
        assert api.messages(id_) == []


def test_a_read_at_a_reached_position_is_answered(api: Api) -> None:
    response = api.http.post("/v1/conversations", json={})
    headers = {"Turnlog-Position": response.headers["turnlog-position"]}
    path = f"/v1/conversations/{response.json()['id']}"
    for read in (path, f"{path}/messages", "/v1/conversations", f"{path}/turns", f"{path}/context", f"{path}/log"):
        assert api.http.get(read, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/conversations/{id}", "/v1/conversations/{id}/messages"])
def test_a_read_at_a_position_that_is_not_reached_in_time_is_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(read_your_writes, "READ_WAIT_S", 0.1)
    path = path.format(id=api.conversation()["id"])
    response = api.http.get(path, headers={"Turnlog-Position": "999999999999999999"})
    check_problem(response, 503, "READ_MODEL_BEHIND")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
def test_a_stranger_cannot_ask_for_a_position(api: Api, path: str) -> None:
    """The wait would tell how much the log holds."""
    response = api.http.get(path, headers={"Turnlog-Position": "999999999999999999"})
    assert response.status_code == 200


@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5", "1e3", "0x10", "1" * 19, "1 2", "²", "٣"])
def test_a_position_that_is_not_a_number_is_refused(api: Api, bad: str) -> None:
    response = api.http.get("/v1/conversations", headers={b"Turnlog-Position": bad.encode()})
    problem = check_problem(response, 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["loc"] == ["header", "Turnlog-Position"]


def test_a_write_names_the_stopped_read_model(fresh_api: Api, broken_listing: None) -> None:
    good = fresh_api.conversation()["id"]
    poison = fresh_api.http.post("/v1/conversations", json={"title": "Poison"})
    assert (poison.status_code, poison.headers["turnlog-behind"]) == (201, "listing")
    later = fresh_api.http.post(f"/v1/conversations/{good}/messages", json={"role": "user", "content": "x"})
    assert (later.status_code, later.headers["turnlog-behind"]) == (201, "listing")
    assert fresh_api.messages(good) == [later.json()]
    assert fresh_api.get("/readyz")["projections"]["listing"]["stopped"]


def test_a_read_that_waits_for_a_stopped_read_model_is_refused(fresh_api: Api, broken_listing: None) -> None:
    poison = fresh_api.http.post("/v1/conversations", json={"title": "Poison"})
    headers = {"Turnlog-Position": poison.headers["turnlog-position"]}
    response = fresh_api.http.get("/v1/conversations", headers=headers)
    check_problem(response, 503, "READ_MODEL_BEHIND")
    assert response.headers["turnlog-behind"] == "listing"
    assert fresh_api.get("/v1/conversations")["data"] == []


def test_a_read_model_catches_up_after_the_error_is_fixed(
    fresh_api: Api, monkeypatch: pytest.MonkeyPatch, broken_listing: None
) -> None:
    poison = fresh_api.http.post("/v1/conversations", json={"title": "Poison"}).json()
    monkeypatch.undo()
    eventually(lambda: fresh_api.get("/v1/conversations")["data"] == [poison])
    assert check_position(fresh_api.http.post("/v1/conversations", json={})) == 2


def test_turns_continue_while_the_listing_is_stopped(
    fresh_api: Api, broken_listing: None, given_model: GivenModel
) -> None:
    good = fresh_api.conversation()["id"]
    fresh_api.http.post("/v1/conversations", json={"title": "Poison"})
    response = fresh_api.turn(good, given_model(["Hello"]))
    assert (response.status_code, response.headers["turnlog-behind"]) == (201, "listing")
    assert response.json()["assistant_message"]["content"] == [{"type": "text", "text": "Hello"}]


def test_a_turn_can_be_cancelled_while_the_history_is_stopped(
    fresh_api: Api, monkeypatch: pytest.MonkeyPatch, given_model: GivenModel
) -> None:
    def failing(self: Any, events: Sequence[ConversationEvent]) -> list[Change]:
        raise RuntimeError("SELECT secret FROM insides")

    id_ = fresh_api.conversation()["id"]
    monkeypatch.setattr(HistoryProjection, "changes", failing)
    with fresh_api.stream(id_, given_model(["Hel", Hang()])) as turn:
        assert turn.response.headers["turnlog-behind"] == "history"
        turn_id = [next(turn.frames), next(turn.frames)][0].data["turn_id"]
        response = fresh_api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        assert response.headers["turnlog-behind"] == "history"
        assert [frame.event for frame in turn.frames][-1] == "turn.cancelled"
