"""Turns that are answered as a whole, and their resources."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_conversation, check_message, check_position, check_problem, check_turn
from tests.support.models.model_scripts import Raw, Reasoning, Script, usage
from tests.support.models.model_server import ModelServer
from turns.frames.frames import Frame
from turns.frames.replay import TurnKey
from turns.turn_streams import TurnStreams


def test_the_answer_holds_the_turn_and_both_messages(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(Script(["Hel", "lo"], usage=usage(11, 7, cached=3, reasoning=2)))
    response = api.turn(id_, model, content="What?")
    assert response.status_code == 201
    check_position(response)
    answer = response.json()
    assert answer.keys() == {"user_message", "assistant_message", "turn"}
    user, assistant, turn = answer["user_message"], answer["assistant_message"], answer["turn"]
    check_message(user)
    check_message(assistant)
    check_turn(turn)
    used = {"input_tokens": 11, "output_tokens": 7, "cached_input_tokens": 3, "reasoning_tokens": 2}
    assert turn["usage"] == assistant["usage"] == {**used, "cost_usd": None, "estimated": False}
    assert (
        user.items()
        >= {"role": "user", "author_id": "user:local", "turn_id": turn["id"], "status": "completed"}.items()
    )
    assert user["content"] == [{"type": "text", "text": "What?"}]
    expected = {
        "role": "assistant",
        "author_id": None,
        "in_reply_to": user["id"],
        "turn_id": turn["id"],
        "model": model,
    }
    assert assistant.items() >= {**expected, "status": "completed", "finish_reason": "stop"}.items()
    assert assistant["content"] == [{"type": "text", "text": "Hello"}]
    ends = {"status": "completed", "finish_reason": "stop", "error": None, "model": model, "conversation_id": id_}
    assert turn.items() >= {**ends, "user_message_id": user["id"], "message_id": assistant["id"]}.items()
    assert 0 <= turn["time_to_first_token_ms"] <= turn["duration_ms"]


def test_the_views_show_the_answer_of_a_turn(api: Api, id_: str, given_model: GivenModel) -> None:
    answer = api.turn(id_, given_model(["Hello"])).json()
    assert api.messages(id_) == [answer["user_message"], answer["assistant_message"]]
    check_turn(answer["turn"])
    assert api.get(f"/v1/conversations/{id_}/turns")["data"] == [answer["turn"]]
    assert api.get(f"/v1/conversations/{id_}/turns/{answer['turn']['id']}") == answer["turn"]
    conversation = api.get(f"/v1/conversations/{id_}")
    check_conversation(conversation)
    assert (conversation["status"], conversation["active_turn_id"], conversation["message_count"]) == ("idle", None, 2)


def test_the_model_gets_the_context_and_the_settings(api: Api, given_model: GivenModel, models: ModelServer) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One"}]
    id_ = api.conversation(messages=[*messages, {"role": "assistant", "content": "1"}])["id"]
    model = given_model(["2"])
    assert api.turn(id_, model, content="Two", temperature=0.5, max_output_tokens=9).status_code == 201
    (request,) = [request for request in models.requests if request.model == model]
    assert [message["content"] for message in request.body["messages"]] == ["Be brief.", "One", "1", "Two"]
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.5, 9)


def test_a_turn_can_start_a_conversation(api: Api, given_model: GivenModel) -> None:
    body = {"content": "Hi", "model": given_model(["Hello"]), "title": "T", "agent_id": "a"}
    response = api.http.post("/v1/turns", json=body)
    assert response.status_code == 201
    check_position(response)
    answer = response.json()
    assert answer.keys() == {"user_message", "assistant_message", "turn"}
    conversation = api.get(f"/v1/conversations/{answer['turn']['conversation_id']}")
    assert (conversation["title"], conversation["agent_id"], conversation["message_count"]) == ("T", "a", 2)


def test_the_servers_own_model_is_the_default(api: Api, id_: str) -> None:
    answer = api.http.post(f"/v1/conversations/{id_}/turns", json={"content": "Hi"}).json()
    assert answer["turn"]["model"] == "default"
    assert answer["assistant_message"]["content"] == [{"type": "text", "text": "Hello there"}]


def test_the_demo_model_needs_no_settings(api: Api, id_: str) -> None:
    answer = api.turn(id_, "turnlog/demo").json()
    assert "demo model" in answer["assistant_message"]["content"][0]["text"]


def test_reasoning_is_a_separate_block(api: Api, id_: str, given_model: GivenModel) -> None:
    answer = api.turn(id_, given_model([Reasoning("H"), Reasoning("m"), "Yes"])).json()
    blocks = [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Yes"}]
    assert answer["assistant_message"]["content"] == blocks


def test_an_empty_answer_fails_and_adds_no_message(api: Api, id_: str, given_model: GivenModel) -> None:
    problem = check_problem(api.turn(id_, given_model([])), 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    detail = "The model ended its answer without saying anything."
    assert problem["error"] == {"code": "model_error", "detail": detail}
    assert [message["role"] for message in api.messages(id_)] == ["user"]


def test_characters_that_the_database_cannot_store_are_replaced_in_an_answer(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    chunk = '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    model = given_model([Raw(chunk + '{"content":"a\\u0000b\\ud83d"}}]}'), "c"])
    answer = api.turn(id_, model).json()
    assert answer["assistant_message"]["content"][0]["text"] == "a\ufffdb\ufffdc"


def test_a_turn_of_another_conversation_is_not_found(api: Api, id_: str, given_model: GivenModel) -> None:
    elsewhere = api.turn(api.conversation()["id"], given_model(["x"])).json()["turn"]["id"]
    for turn_id in (elsewhere, str(uuid4())):
        path = f"/v1/conversations/{id_}/turns/{turn_id}"
        check_problem(api.http.get(path), 404, "TURN_NOT_FOUND")
        check_problem(api.http.post(f"{path}/cancel"), 404, "TURN_NOT_FOUND")


def test_turns_are_listed_newest_first(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(["x"])
    turns = [api.turn(id_, model).json()["turn"] for _ in range(3)]
    assert api.get(f"/v1/conversations/{id_}/turns")["data"] == turns[::-1]
    assert api.pages(f"/v1/conversations/{id_}/turns", limit=2) == [turns[:0:-1], turns[:1]]


def test_a_turn_without_a_known_end_is_not_an_answer(
    api: Api, id_: str, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = TurnStreams.follow

    async def without_its_end(self: TurnStreams, key: TurnKey, **how: Any) -> AsyncGenerator[list[Frame]]:
        async for batch in follow(self, key, **how):
            yield [frame for frame in batch if not frame.terminal]

    monkeypatch.setattr(TurnStreams, "follow", without_its_end)
    check_problem(api.turn(id_, given_model(["x"])), 503, "STORE_UNAVAILABLE")
