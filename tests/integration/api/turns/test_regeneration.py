"""Regenerating and editing: replaced messages leave the history and the context.

They are still returned on request.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, Frame, frames_of
from tests.support.http.refusals import check_invalid
from tests.support.http.resources import check_message, check_position, check_problem, check_turn
from tests.support.models.model_scripts import BreakOff, Hang, Script, ToolFragment
from tests.support.models.model_server import ModelServer


def regenerate(api: Api, id_: str, message: dict[str, Any], **body: Any) -> httpx.Response:
    return api.http.post(f"/v1/conversations/{id_}/messages/{message['id']}/regenerate", json=body)


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return ["".join(block.get("text", "") for block in message["content"]) for message in messages]


def last_prompt(models: ModelServer, model: str) -> list[Any]:
    """Return the messages of the last request to the model."""
    request = [request for request in models.requests if request.model == model][-1]
    return [message["content"] for message in request.body["messages"]]


def replayed(api: Api, turn: dict[str, Any]) -> list[Frame]:
    path = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}/stream"
    with api.http.stream("GET", path) as response:
        return list(frames_of(response))


def test_a_regenerated_answer_supersedes_the_old_one(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["One"], ["Two"], ["Three"])
    first = api.turn(id_, model, content="Say").json()
    response = regenerate(api, id_, first["assistant_message"])
    assert response.status_code == 201
    check_position(response)
    again = response.json()
    check_turn(again["turn"])
    check_message(again["assistant_message"])
    assert again["user_message"] == first["user_message"]
    assert again["assistant_message"]["in_reply_to"] == first["user_message"]["id"]
    assert again["assistant_message"]["id"] == again["turn"]["message_id"] != first["assistant_message"]["id"]
    assert again["turn"]["user_message_id"] == first["user_message"]["id"]
    assert last_prompt(models, model) == ["Say"]
    assert api.messages(id_) == [first["user_message"], again["assistant_message"]]
    everything = api.messages(id_, include="superseded")
    assert [(text, message["status"]) for text, message in zip(texts(everything), everything, strict=True)] == [
        ("Say", "completed"),
        ("One", "superseded"),
        ("Two", "completed"),
    ]
    old = api.get(f"/v1/conversations/{id_}/messages/{first['assistant_message']['id']}")
    check_message(old)
    assert old == {**first["assistant_message"], "status": "superseded"}
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 2
    kinds = [event["type"] for event in api.events(id_)]
    assert kinds.index("MessagesSuperseded") == kinds.index("TurnCompleted") + 1
    assert texts(api.messages(id_)) == ["Say", "Two"]
    assert replayed(api, first["turn"])[-1].data["message"] == first["assistant_message"]
    assert replayed(api, again["turn"])[0].data["user_message"] == first["user_message"]


def test_all_messages_after_the_answer_are_superseded_too(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["1"], ["2"], ["3"], ["1 again"])
    answers = [api.turn(id_, model, content=f"Ask {number}").json() for number in (1, 2, 3)]
    regenerate(api, id_, answers[0]["assistant_message"])
    assert texts(api.messages(id_)) == ["Ask 1", "1 again"]
    assert last_prompt(models, model) == ["Ask 1"]
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 2
    assert [message["status"] for message in api.messages(id_, include="superseded")] == [
        "completed",
        *["superseded"] * 5,
        "completed",
    ]
    api.turn(id_, model, content="Then")
    assert last_prompt(models, model) == ["Ask 1", "1 again", "Then"]


def test_a_regenerated_answer_can_stream_and_use_another_model(api: Api, id_: str, given_model: GivenModel) -> None:
    first = api.turn(id_, given_model(["One"])).json()
    other = given_model(["Two"])
    path = f"/v1/conversations/{id_}/messages/{first['assistant_message']['id']}/regenerate"
    with api.http.stream("POST", path, json={"stream": True, "model": other}) as response:
        seen = list(frames_of(response))
    assert [frame.event for frame in seen] == ["turn.started", "delta", "block.done", "turn.completed"]
    assert seen[0].data["model"] == seen[-1].data["turn"]["model"] == other
    assert seen[0].data["user_message"] == first["user_message"]
    assert replayed(api, seen[-1].data["turn"]) == seen


def test_settings_that_are_not_given_stay_as_before(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["One"], ["Two"])
    tool = {"name": "add", "description": "Adds.", "input_schema": {}}
    first = api.turn(id_, model, temperature=0.25, max_output_tokens=9, tools=[tool]).json()
    assert regenerate(api, id_, first["assistant_message"]).json()["turn"]["model"] == model
    one, two = (request.body for request in models.requests if request.model == model)
    assert one == two


def test_a_question_without_an_answer_can_be_regenerated(api: Api, id_: str, given_model: GivenModel) -> None:
    check_problem(api.turn(id_, given_model([BreakOff()])), 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    (question,) = api.messages(id_)
    again = regenerate(api, id_, question, model=given_model(["Now"]))
    assert again.status_code == 201
    assert texts(api.messages(id_)) == ["Hi", "Now"]
    assert "MessagesSuperseded" not in [event["type"] for event in api.events(id_)]


def test_messages_without_a_turn_are_answered_by_the_servers_model(api: Api) -> None:
    added = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}]
    id_ = api.conversation(messages=added)["id"]
    _, answer, _ = api.messages(id_)
    assert regenerate(api, id_, answer).json()["turn"]["model"] == "default"
    assert texts(api.messages(id_)) == ["Q", "Hello there"]


def test_an_answer_with_tool_calls_is_regenerated_from_its_question(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    calls = Script([ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls")
    model = given_model(calls, ["It is 3."], ["It is 4."])
    turn = api.turn(id_, model, content="How much?").json()["turn"]
    results = {"results": [{"tool_use_id": "call_1", "content": "3"}]}
    whole = api.http.post(f"/v1/conversations/{id_}/turns/{turn['id']}/tool_results", json=results).json()
    regenerate(api, id_, whole["assistant_message"])
    assert texts(api.messages(id_)) == ["How much?", "It is 4."]
    assert last_prompt(models, model) == ["How much?"]


def test_a_waiting_turn_is_ended_by_regenerating(api: Api, id_: str, given_model: GivenModel) -> None:
    calls = Script([ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls")
    answer = api.turn(id_, given_model(calls, ["No tools."]), content="How much?").json()
    regenerate(api, id_, answer["assistant_message"])
    assert texts(api.messages(id_)) == ["How much?", "No tools."]
    assert api.get(f"/v1/conversations/{id_}/turns/{answer['turn']['id']}")["status"] == "cancelled"
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 2


def test_only_existing_answers_and_questions_can_be_regenerated(api: Api, id_: str, given_model: GivenModel) -> None:
    first = api.turn(id_, given_model(["One"], ["Two"])).json()["assistant_message"]
    assert regenerate(api, id_, first).status_code == 201
    check_problem(regenerate(api, id_, first), 404, "MESSAGE_NOT_FOUND")
    check_problem(regenerate(api, id_, {"id": uuid4()}), 404, "MESSAGE_NOT_FOUND")
    check_problem(regenerate(api, str(uuid4()), first), 404, "CONVERSATION_NOT_FOUND")
    system = api.message(id_, "Be brief.", "system")
    check_invalid(regenerate(api, id_, system), "path", "message_id")
    greeting = api.message(api.conversation()["id"], "Welcome", "assistant")
    check_invalid(regenerate(api, greeting["conversation_id"], greeting), "path", "message_id")
    check_invalid(regenerate(api, id_, system, content="x"), "body", "content")
    added = api.message(greeting["conversation_id"], "More", "assistant", in_reply_to=greeting["id"])
    check_invalid(regenerate(api, greeting["conversation_id"], added), "path", "message_id")
    system_message = api.message(greeting["conversation_id"], "Be brief.", "system", in_reply_to=greeting["id"])
    check_invalid(regenerate(api, greeting["conversation_id"], system_message), "path", "message_id")


def test_regenerating_is_refused_while_a_turn_runs(api: Api, id_: str, given_model: GivenModel) -> None:
    first = api.turn(id_, given_model(["One"])).json()["assistant_message"]
    with api.stream(id_, given_model([Hang()])) as turn:
        turn_id = next(turn.frames).data["turn_id"]
        check_problem(regenerate(api, id_, first), 409, "CONVERSATION_LOCKED", "active_turn_id")
        streaming = api.messages(id_)[-1]
        check_problem(regenerate(api, id_, streaming), 409, "CONVERSATION_LOCKED", "active_turn_id")
        refused = api.turn(id_, "default", replace_from=streaming["id"])
        check_problem(refused, 409, "CONVERSATION_LOCKED", "active_turn_id")
        api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")


def test_a_repeated_key_regenerates_once(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(["One"], ["Two"], ["Three"])
    first = api.turn(id_, model).json()["assistant_message"]
    path = f"/v1/conversations/{id_}/messages/{first['id']}/regenerate"
    key = {"Idempotency-Key": f"again-{id_}"}
    one, other = (api.http.post(path, json={}, headers=key) for _ in range(2))
    assert one.status_code == other.status_code == 201
    assert one.json() == other.json()
    assert texts(api.messages(id_)) == ["Hi", "Two"]


def test_an_edited_message_supersedes_the_old_one_and_all_after_it(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(["1"], ["2"], ["Edited"])
    first, second = (api.turn(id_, model, content=f"Ask {number}").json() for number in (1, 2))
    edited = api.turn(id_, model, content="Ask better", replace_from=second["user_message"]["id"])
    assert edited.status_code == 201
    assert api.messages(id_) == [
        first["user_message"],
        first["assistant_message"],
        edited.json()["user_message"],
        edited.json()["assistant_message"],
    ]
    assert last_prompt(models, model) == ["Ask 1", "1", "Ask better"]
    assert api.get(f"/v1/conversations/{id_}/context")["messages"][-1]["content"] == "Edited"
    assert texts(api.messages(id_, include="superseded", order="desc")) == [
        "Edited",
        "Ask better",
        "2",
        "Ask 2",
        "1",
        "Ask 1",
    ]
    pages = api.pages(f"/v1/conversations/{id_}/messages", limit=1)
    assert [texts(page) for page in pages] == [["Ask 1"], ["1"], ["Ask better"], ["Edited"]]


def test_an_unknown_message_cannot_be_replaced(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(["1"])
    first = api.turn(id_, model).json()["user_message"]
    check_problem(api.turn(id_, model, replace_from=str(uuid4())), 404, "MESSAGE_NOT_FOUND")
    check_problem(api.turn(id_, model, replace_from="x"), 422, "VALIDATION_FAILED", "errors")
    new = api.http.post("/v1/turns", json={"content": "Hi", "model": model, "replace_from": first["id"]})
    check_problem(new, 404, "MESSAGE_NOT_FOUND")
    assert api.turn(id_, model, replace_from=first["id"]).status_code == 201
    check_problem(api.turn(id_, model, replace_from=first["id"]), 404, "MESSAGE_NOT_FOUND")


def test_an_edit_during_a_streaming_answer_interrupts_it(api: Api, id_: str, given_model: GivenModel) -> None:
    with api.stream(id_, given_model(["Wrong", Hang()])) as turn:
        question = next(turn.frames).data["user_message"]
        assert next(turn.frames).event == "delta"
        edited = api.turn(
            id_, given_model(["Right"]), content="Better", replace_from=question["id"], on_busy="interrupt"
        )
        assert [frame.event for frame in turn.frames][-1] == "turn.cancelled"
    assert edited.status_code == 201
    assert texts(api.messages(id_)) == ["Better", "Right"]
    assert texts(api.messages(id_, include="superseded")) == ["Hi", "Wrong", "Better", "Right"]
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 2


def test_a_superseded_message_can_be_deleted_and_is_not_counted_twice(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    first = api.turn(id_, given_model(["One"], ["Two"])).json()["assistant_message"]
    regenerate(api, id_, first)
    path = f"/v1/conversations/{id_}/messages/{first['id']}"
    assert api.http.delete(path).status_code == 204
    check_problem(api.http.get(path), 404, "MESSAGE_NOT_FOUND")
    assert texts(api.messages(id_, include="superseded")) == ["Hi", "Two"]
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 2


def test_only_one_of_two_concurrent_regenerations_succeeds(api: Api, id_: str, given_model: GivenModel) -> None:
    first = api.turn(id_, given_model(["One"], ["Two"])).json()["assistant_message"]
    with ThreadPoolExecutor(4) as threads:
        answers = [future.result() for future in [threads.submit(regenerate, api, id_, first) for _ in range(4)]]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 201 and set(statuses[1:]) <= {404, 409}
    assert texts(api.messages(id_)) == ["Hi", "Two"]


def test_another_server_shows_the_same_messages(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        first = here.turn(id_, given_model(["One"], ["Two"])).json()["assistant_message"]
        again = regenerate(there, id_, first).json()
        assert texts(here.messages(id_)) == texts(there.messages(id_)) == ["Hi", "Two"]
        assert replayed(here, again["turn"]) == replayed(there, again["turn"])
