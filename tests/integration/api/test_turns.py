"""Turns that answer whole, their resources, their failures, and the lock they hold."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.api_client import Api, frames_of
from tests.support.model_scripts import (
    BAD_KEY,
    CONTENT_FILTERED,
    CONTEXT_TOO_LONG,
    RATE_LIMITED,
    SERVER_ERROR,
    BreakOff,
    Hang,
    Pause,
    Raw,
    Reasoning,
    Refusal,
    Script,
    usage,
)
from tests.support.model_server import ModelServer
from tests.support.resources import check_conversation, check_message, check_position, check_problem, check_turn
from tests.support.waiting import eventually
from turns.frames import Frame
from turns.streams import Streams
from turns.turn_log import TurnKey


@pytest.fixture
def impatient_api(database_url: str, serve: Serve) -> Iterator[Api]:
    """An API that does not wait long for models."""
    with serve(database_url, model_first_token_timeout_s=0.3, model_between_tokens_timeout_s=0.3) as api:
        yield api


def turn_of(api: Api, id_: str) -> dict[str, Any]:
    (turn,) = api.get(f"/v1/conversations/{id_}/turns")["data"]
    check_turn(turn)
    return turn


def test_a_turn_answers_with_both_messages_and_itself(api: Api, id_: str, given_model: GivenModel) -> None:
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
    assert user.items() >= {"role": "user", "author_id": "local", "turn_id": turn["id"], "status": "completed"}.items()
    assert user["content"] == [{"type": "text", "text": "What?"}]
    said = {"role": "assistant", "author_id": None, "in_reply_to": user["id"], "turn_id": turn["id"], "model": model}
    assert assistant.items() >= {**said, "status": "completed", "finish_reason": "stop"}.items()
    assert assistant["content"] == [{"type": "text", "text": "Hello"}]
    ends = {"status": "completed", "finish_reason": "stop", "error": None, "model": model, "conversation_id": id_}
    assert turn.items() >= {**ends, "user_message_id": user["id"], "message_id": assistant["id"]}.items()
    assert 0 <= turn["time_to_first_token_ms"] <= turn["duration_ms"]


def test_the_views_show_what_a_turn_answered(api: Api, id_: str, given_model: GivenModel) -> None:
    answer = api.turn(id_, given_model(["Hello"])).json()
    assert api.messages(id_) == [answer["user_message"], answer["assistant_message"]]
    assert turn_of(api, id_) == answer["turn"]
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


def test_a_turn_can_be_the_start_of_a_conversation(api: Api, given_model: GivenModel) -> None:
    body = {"content": "Hi", "model": given_model(["Hello"]), "title": "T", "agent_id": "a"}
    response = api.http.post("/v1/turns", json=body)
    assert response.status_code == 201
    check_position(response)
    answer = response.json()
    assert answer.keys() == {"user_message", "assistant_message", "turn"}
    conversation = api.get(f"/v1/conversations/{answer['turn']['conversation_id']}")
    assert (conversation["title"], conversation["agent_id"], conversation["message_count"]) == ("T", "a", 2)


def test_the_servers_own_model_answers_where_none_is_named(api: Api, id_: str) -> None:
    answer = api.http.post(f"/v1/conversations/{id_}/turns", json={"content": "Hi"}).json()
    assert answer["turn"]["model"] == "default"
    assert answer["assistant_message"]["content"] == [{"type": "text", "text": "Hello there"}]


def test_the_demo_model_needs_nothing(api: Api, id_: str) -> None:
    answer = api.turn(id_, "turnlog/demo").json()
    assert "demo model" in answer["assistant_message"]["content"][0]["text"]


def test_reasoning_is_a_block_of_its_own(api: Api, id_: str, given_model: GivenModel) -> None:
    answer = api.turn(id_, given_model([Reasoning("H"), Reasoning("m"), "Yes"])).json()
    blocks = [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Yes"}]
    assert answer["assistant_message"]["content"] == blocks


def test_a_model_that_says_nothing_leaves_no_message(api: Api, id_: str, given_model: GivenModel) -> None:
    answer = api.turn(id_, given_model([])).json()
    assert (answer["assistant_message"], answer["turn"]["status"]) == (None, "completed")
    assert [message["role"] for message in api.messages(id_)] == ["user"]


def test_what_a_database_cannot_hold_is_replaced_in_an_answer(api: Api, id_: str, given_model: GivenModel) -> None:
    chunk = '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    model = given_model([Raw(chunk + '{"content":"a\\u0000b\\ud83d"}}]}'), "c"])
    answer = api.turn(id_, model).json()
    assert answer["assistant_message"]["content"][0]["text"] == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (RATE_LIMITED, "model_rate_limited"),
        (SERVER_ERROR, "model_unavailable"),
        (BAD_KEY, "model_auth"),
        (CONTEXT_TOO_LONG, "context_too_long"),
        (CONTENT_FILTERED, "content_filtered"),
        (Script([BreakOff()]), "model_unavailable"),
    ],
)
def test_a_model_that_refuses_is_a_502(
    api: Api, id_: str, given_model: GivenModel, failure: Refusal | Script, code: str
) -> None:
    response = api.turn(id_, given_model(failure))
    problem = check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    check_position(httpx.Response(200, headers=response.headers))
    assert problem["error"].keys() == {"code", "detail"}
    assert problem["error"]["code"] == code
    turn = turn_of(api, id_)
    assert turn["id"] == problem["turn_id"]
    assert (turn["status"], turn["error"]) == ("failed", problem["error"])
    assert [message["role"] for message in api.messages(id_)] == ["user"]
    assert api.get(f"/v1/conversations/{id_}")["status"] == "idle"


@pytest.mark.parametrize("end", [BreakOff(), Raw("{not json")])
def test_what_a_model_said_before_it_broke_is_kept(
    api: Api, id_: str, given_model: GivenModel, end: BreakOff | Raw
) -> None:
    response = api.turn(id_, given_model(["Hel", "lo", end]))
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    _, said = api.messages(id_)
    check_message(said)
    assert (said["status"], said["content"]) == ("interrupted", [{"type": "text", "text": "Hello"}])
    assert turn_of(api, id_)["message_id"] == said["id"]
    assert api.turn(id_, given_model(["Again"])).status_code == 201


def test_an_answer_without_a_finish_is_a_failure(api: Api, id_: str, given_model: GivenModel) -> None:
    response = api.turn(id_, given_model(Script(["Hel"], finish_reason=None)))
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    assert turn_of(api, id_)["error"]["code"] == "model_error"


def test_a_model_that_goes_silent_is_a_timeout(impatient_api: Api, given_model: GivenModel) -> None:
    id_ = impatient_api.conversation()["id"]
    response = impatient_api.turn(id_, given_model(["Hel", Hang()]))
    problem = check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    assert problem["error"]["code"] == "model_timeout"
    assert impatient_api.messages(id_)[1]["content"] == [{"type": "text", "text": "Hel"}]
    response = impatient_api.turn(id_, given_model([Hang()]))
    assert response.json()["error"]["code"] == "model_timeout"


def test_an_unknown_model_is_a_502(api: Api, id_: str) -> None:
    for model in ("no-such-model", "turnlog/other", "nobody/nothing", "💥"):
        response = api.turn(id_, model)
        check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")


def test_while_a_turn_runs_the_conversation_is_locked(api: Api, id_: str, given_model: GivenModel) -> None:
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


def test_a_deleted_conversation_stops_its_turn(
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


def test_a_cancelled_turn_keeps_what_was_said_and_leaves_the_provider(
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
    _, said = api.messages(id_)
    assert rest[-1].data["message"] == said
    assert (said["status"], said["content"]) == ("interrupted", [{"type": "text", "text": "Hello"}])
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


def test_a_cancel_from_another_server_leaves_out_no_chunk_that_was_shown(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    model = given_model(Script([f"{number} " for number in range(1000)], delay_s=0.004))
    with serve(database_url) as here, serve(database_url) as there:
        for key in ({}, {"Idempotency-Key": "cancel"}):
            id_ = here.conversation()["id"]
            # jsonb has the keys of an object in another order than the client.
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


def test_a_turn_whose_end_is_not_known_is_no_answer(
    api: Api, id_: str, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = Streams.follow

    async def without_its_end(self: Streams, key: TurnKey, **how: Any) -> AsyncGenerator[list[Frame]]:
        async for batch in follow(self, key, **how):
            yield [frame for frame in batch if not frame.terminal]

    monkeypatch.setattr(Streams, "follow", without_its_end)
    check_problem(api.turn(id_, given_model(["x"])), 503, "STORE_UNAVAILABLE")
