"""Running turns: their lock, and how any server follows and stops them."""

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, frames_of
from tests.support.http.resources import check_conversation, check_position, check_problem, check_turn
from tests.support.models.model_scripts import Hang, Pause, Reasoning, Script
from tests.support.models.model_server import ModelServer
from tests.support.waiting import eventually


def test_a_running_turn_locks_the_conversation(api: Api, id_: str, given_model: GivenModel) -> None:
    path = f"/v1/conversations/{id_}"
    message = api.message(id_)
    with api.stream(id_, given_model(["Hel", Hang()])) as turn:
        turn_id = [next(turn.frames), next(turn.frames)][0].data["turn_id"]
        conversation = api.get(path)
        check_conversation(conversation)
        assert (conversation["status"], conversation["active_turn_id"]) == ("running", turn_id)
        refused = [
            api.turn(id_, "default"),
            api.turn(id_, "default", stream=True),
            api.http.post(f"{path}/messages", json={"role": "user", "content": "x"}),
            api.http.delete(f"{path}/messages/{message['id']}"),
        ]
        for response in refused:
            problem = check_problem(response, 409, "CONVERSATION_LOCKED", "active_turn_id")
            assert problem["active_turn_id"] == turn_id
            assert int(response.headers["retry-after"]) >= 1
        assert api.http.patch(path, json={"title": "T"}).status_code == 200
        assert api.http.post(f"{path}/turns/{turn_id}/cancel").status_code == 200
    assert api.message(id_)["status"] == "completed"


def test_deleting_a_conversation_stops_its_turn(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["Hel", Hang()])
    with api.stream(id_, model) as turn:
        frames = turn.frames
        assert [next(frames).event, next(frames).event] == ["turn.started", "delta"]
        assert api.http.delete(f"/v1/conversations/{id_}").status_code == 204
        assert [frame.event for frame in frames][-1] == "turn.cancelled"
    (request,) = [request for request in models.requests if request.model == model]
    assert request.given_up.wait(5)
    assert [event["type"] for event in api.events(id_)][-2:] == ["TurnCancelled", "ConversationDeleted"]


def test_a_cancelled_turn_keeps_its_text_and_disconnects_from_the_provider(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["Hel", "lo", Hang()])
    with api.stream(id_, model) as turn:
        frames = turn.frames
        turn_id = [next(frames), next(frames), next(frames)][0].data["turn_id"]
        response = api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")
        assert response.status_code == 200
        check_position(response)
        cancelled = response.json()
        check_turn(cancelled)
        assert (cancelled["id"], cancelled["status"], cancelled["error"]) == (turn_id, "cancelled", None)
        rest = list(frames)
    assert [frame.event for frame in rest] == ["block.done", "turn.cancelled"]
    assert rest[-1].data.keys() == {"conversation_id", "turn_id", "seq", "turn", "message", "error"}
    assert (rest[-1].data["turn"], rest[-1].data["error"]) == (cancelled, None)
    _, answer = api.messages(id_)
    assert rest[-1].data["message"] == answer
    assert (answer["status"], answer["content"]) == ("interrupted", [{"type": "text", "text": "Hello"}])
    (request,) = [request for request in models.requests if request.model == model]
    assert request.given_up.wait(5)


def test_a_turn_that_waits_for_its_model_can_be_cancelled(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model([Hang()])
    with api.stream(id_, model) as turn:
        turn_id = next(turn.frames).data["turn_id"]
        eventually(lambda: model in [request.model for request in models.requests])
        api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")
        (last,) = turn.frames
        assert (last.event, last.data["message"]) == ("turn.cancelled", None)
    assert [message["role"] for message in api.messages(id_)] == ["user"]


def test_a_turn_that_has_ended_cannot_be_cancelled(api: Api, id_: str, given_model: GivenModel) -> None:
    turn = api.turn(id_, given_model(["x"])).json()["turn"]
    response = api.http.post(f"/v1/conversations/{id_}/turns/{turn['id']}/cancel")
    check_problem(response, 409, "TURN_NOT_ACTIVE")


def test_a_turn_is_followed_from_another_server(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    model = given_model([Reasoning("Hm"), "Hel", Pause(0.3), "lo", "!"])
    key = {"Idempotency-Key": "k"}
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        with here.stream(id_, model, key) as first, there.stream(id_, model, key) as second:
            assert list(second.frames) == list(first.frames)
        assert there.messages(id_) == here.messages(id_)


def test_a_turn_is_cancelled_from_another_server(
    database_url: str, serve: Serve, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["Hel", Hang()])
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        with here.stream(id_, model) as turn:
            turn_id = [next(turn.frames), next(turn.frames)][0].data["turn_id"]
            eventually(lambda: "StreamDelta" in [event["type"] for event in there.events(id_)])
            check_problem(there.turn(id_, "default"), 409, "CONVERSATION_LOCKED", "active_turn_id")
            response = there.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")
            assert (response.status_code, response.json()["status"]) == (200, "cancelled")
            assert [frame.event for frame in turn.frames][-1] == "turn.cancelled"
        (request,) = [request for request in models.requests if request.model == model]
        assert request.given_up.wait(5)
        assert there.messages(id_)[1]["content"] == [{"type": "text", "text": "Hel"}]
        ends = [event["type"] for event in there.events(id_) if event["type"].startswith("Turn")]
        assert ends == ["TurnStarted", "TurnCancelled"]


def test_a_cancel_from_another_server_keeps_every_chunk_that_was_shown(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    model = given_model(Script([f"{number} " for number in range(1000)], delay_s=0.004))
    with serve(database_url) as here, serve(database_url) as there:
        for key in ({}, {"Idempotency-Key": "cancel"}):
            id_ = here.conversation()["id"]
            # jsonb orders the keys of an object differently from the client.
            question = [{"type": "context", "data": {"bb": 1, "a": 2}}]
            with here.stream(id_, model, content=question) as turn:
                seen = [next(turn.frames) for _ in range(40)]
                path = f"/v1/conversations/{id_}/turns/{seen[0].data['turn_id']}"
                cancelled = there.http.post(f"{path}/cancel", headers=key)
                seen += turn.frames
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
            with there.http.stream("GET", f"{path}/stream") as response:
                assert list(frames_of(response)) == seen
            assert there.http.post(f"{path}/cancel", headers=key).status_code == (200 if key else 409)
