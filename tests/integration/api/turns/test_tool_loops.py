"""A model in a tool loop gets back its reasoning and the extras of its calls."""

from typing import Any
from uuid import uuid4

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ADD, results_path, sent
from tests.support.models.model_scripts import Reasoning, Script, ToolFragment
from tests.support.models.model_server import ModelServer

CALL = Script(
    [Reasoning("I have "), Reasoning("to add."), ToolFragment(0, "call_1", "add", '{"a": 1}')],
    finish_reason="tool_calls",
)
AGAIN = Script([ToolFragment(0, "call_2", "add", '{"a": 2}')], finish_reason="tool_calls")
ANSWER = Script([Reasoning("So it is 3."), "It is 3."])
SIGNED = {"google": {"thought_signature": "c2ln"}}


def run_tool_loop(api: Api, id_: str, model: str) -> None:
    """Run a turn in which the model calls a tool twice and then answers."""
    turn = api.turn(id_, model, content="How much?", tools=[ADD]).json()["turn"]
    for call in ("call_1", "call_2"):
        response = api.http.post(results_path(turn), json={"results": [{"tool_use_id": call, "content": "3"}]})
        assert response.status_code == 200, response.text
    assert response.json()["turn"]["status"] == "completed"


def reasoning(request: dict[str, Any]) -> list[str | None]:
    return [message.get("reasoning_content") for message in request["messages"] if message["role"] == "assistant"]


@pytest.mark.parametrize("provider", ["", "openai/", "deepseek/", "hosted_vllm/"])
def test_a_model_gets_its_reasoning_back_beside_its_calls(
    api: Api, id_: str, models: ModelServer, provider: str
) -> None:
    name = f"thinker-{uuid4().hex[:12]}"
    models.script(name, CALL, AGAIN, ANSWER)
    run_tool_loop(api, id_, provider + name)
    first, second, third = (reasoning(request) for request in sent(models, name))
    assert (first, second, third) == ([], ["I have to add."], ["I have to add.", " "])
    models.script(name, Script(["Yes."]))
    assert api.turn(id_, provider + name, content="Really?").status_code == 201
    always = ["I have to add.", " ", "So it is 3."]
    expected = always if provider == "deepseek/" else [None, None, None]
    assert reasoning(sent(models, name)[-1]) == expected


def test_the_context_shows_the_reasoning_that_the_model_would_be_sent(
    api: Api, id_: str, given_model: GivenModel
) -> None:
    model = given_model(CALL)
    assert api.turn(id_, model, content="How much?", tools=[ADD]).json()["turn"]["status"] == "requires_action"
    for model_name, expected in [(model, ["I have to add."]), ("anthropic/claude-sonnet-4-5", [None])]:
        context = api.get(f"/v1/conversations/{id_}/context", model=model_name, max_tokens=1000)
        assert reasoning(context) == expected


def test_the_extra_content_of_a_call_is_stored_shown_and_sent_back(
    api: Api, id_: str, given_model: GivenModel, models: ModelServer
) -> None:
    call: dict[str, Any] = {"type": "tool_use", "name": "add", "input": {"a": 1}}
    calls = [{**call, "id": "call_1", "extra_content": SIGNED}, {**call, "id": "call_2"}]
    api.message(id_, "How much?")
    assert api.message(id_, calls, "assistant")["content"] == calls
    results = [{"type": "tool_result", "tool_use_id": f"call_{n}", "content": "3"} for n in (1, 2)]
    api.message(id_, results, "tool")
    assert api.messages(id_)[1]["content"] == calls
    model = given_model(["x"])
    assert api.turn(id_, model, content="Well?").status_code == 201
    (request,) = sent(models, model)
    first, second = request["messages"][1]["tool_calls"]
    assert first["extra_content"] == SIGNED
    assert "extra_content" not in second


@pytest.mark.parametrize("extra", ["c2ln", [], {"a": "\0"}, {"a": "x" * 64 * 1024}], ids=lambda extra: str(extra)[:20])
def test_extra_content_that_cannot_be_stored_is_refused(api: Api, id_: str, extra: Any) -> None:
    call = {"type": "tool_use", "id": "1", "name": "add", "input": {}, "extra_content": extra}
    response = api.http.post(f"/v1/conversations/{id_}/messages", json={"role": "assistant", "content": [call]})
    problem = check_problem(response, 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["loc"][:3] == ["body", "content", 0]
