"""Turns whose model refuses, breaks or stalls keep their text and free the lock."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api
from tests.support.http.resources import check_message, check_position, check_problem, check_turn
from tests.support.models.model_scripts import (
    BAD_KEY,
    CONTENT_FILTERED,
    CONTEXT_TOO_LONG,
    RATE_LIMITED,
    SERVER_ERROR,
    BreakOff,
    Hang,
    Raw,
    Refusal,
    Script,
)


@pytest.fixture
def impatient_api(database_url: str, serve: Serve) -> Iterator[Api]:
    """An API with short timeouts for models."""
    with serve(database_url, model_first_token_timeout_s=0.3, model_between_tokens_timeout_s=0.3) as api:
        yield api


def turn_of(api: Api, id_: str) -> dict[str, Any]:
    (turn,) = api.get(f"/v1/conversations/{id_}/turns")["data"]
    check_turn(turn)
    return turn


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
def test_a_refusal_of_the_model_is_a_502(
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
def test_the_text_before_a_failure_is_kept(api: Api, id_: str, given_model: GivenModel, end: BreakOff | Raw) -> None:
    response = api.turn(id_, given_model(["Hel", "lo", end]))
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    _, answer = api.messages(id_)
    check_message(answer)
    assert (answer["status"], answer["content"]) == ("interrupted", [{"type": "text", "text": "Hello"}])
    assert turn_of(api, id_)["message_id"] == answer["id"]
    assert api.turn(id_, given_model(["Again"])).status_code == 201


def test_an_answer_without_a_finish_reason_fails(api: Api, id_: str, given_model: GivenModel) -> None:
    response = api.turn(id_, given_model(Script(["Hel"], finish_reason=None)))
    check_problem(response, 502, "MODEL_ERROR", "conversation_id", "turn_id", "error")
    assert turn_of(api, id_)["error"]["code"] == "model_error"


def test_a_model_that_stalls_is_a_timeout(impatient_api: Api, given_model: GivenModel) -> None:
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
