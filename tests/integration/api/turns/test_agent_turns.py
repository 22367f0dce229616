"""Turns use the settings of their conversation's agent, resolved when they start."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ADD, ANSWER, CALLS, FIND, RESULTS, results_path, sent
from tests.support.models.model_scripts import Hang, Script
from tests.support.models.model_server import ModelServer
from tests.support.store import value
from tests.support.waiting import eventually

PROMPT = "Answer like a pirate."


@pytest.fixture
def label() -> str:
    """The label of an agent for this test."""
    return f"agent-{uuid4().hex}"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def define(api: Api, label: str, **settings: Any) -> dict[str, Any]:
    response = api.http.put(f"/v1/agents/{label}", json=settings)
    assert response.is_success, response.text
    return response.json()


def ask(api: Api, id_: str, **body: Any) -> dict[str, Any]:
    """Ask without a model, and return the whole turn."""
    response = api.http.post(f"/v1/conversations/{id_}/turns", json={"content": "Hi", **body})
    assert response.status_code == 201, response.text
    return response.json()


def starts(api: Api, id_: str) -> list[dict[str, Any]]:
    """Return what the log holds of the starts of turns."""
    return [event["data"] for event in api.events(id_) if event["type"] == "TurnStarted"]


def roles_and_texts(request: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in request["messages"]]


def test_a_turn_uses_what_the_request_leaves_open(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(["Arr"])
    agent = define(
        api, label, system_prompt=PROMPT, model=model, temperature=0.25, max_context_tokens=3000, tools=[ADD]
    )
    id_ = api.conversation(agent_id=label)["id"]
    api.message(id_, "Be kind.", "system")
    turn = ask(api, id_)["turn"]
    assert turn["model"] == model
    (request,) = sent(models, model)
    assert roles_and_texts(request) == [("system", PROMPT), ("system", "Be kind."), ("user", "Hi")]
    assert (request["temperature"], [tool["function"]["name"] for tool in request["tools"]]) == (0.25, ["add"])
    (started,) = starts(api, id_)
    assert (started["model"], started["temperature"], started["max_context_tokens"]) == (model, 0.25, 3000)
    assert [tool["name"] for tool in started["tools"]] == ["add"]
    resolved = started["agent"]
    assert (resolved["label"], resolved["version"]) == (label, agent["version"])
    assert resolved["system_prompt_sha256"] == sha256(PROMPT.encode()).hexdigest()
    assert PROMPT not in str(started)
    assert [message["role"] for message in api.messages(id_)] == ["system", "user", "assistant"]


def test_what_the_request_gives_wins(api: Api, given_model: GivenModel, models: ModelServer, label: str) -> None:
    define(api, label, system_prompt=PROMPT, model="unused", temperature=0.25, max_context_tokens=3000, tools=[ADD])
    model = given_model(["Yes"])
    id_ = api.conversation(agent_id=label)["id"]
    ask(api, id_, model=model, temperature=1.5, max_context_tokens=2000, tools=[FIND])
    ask(api, id_, model=model, tools=[])
    first, second = sent(models, model)
    assert (first["temperature"], [tool["function"]["name"] for tool in first["tools"]]) == (1.5, ["find"])
    assert "tools" not in second
    assert [start["max_context_tokens"] for start in starts(api, id_)] == [2000, 3000]


def test_a_turn_that_starts_a_conversation_uses_the_agent(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(["Arr"])
    define(api, label, system_prompt=PROMPT, model=model)
    response = api.http.post("/v1/turns", json={"content": "Hi", "agent_id": label})
    assert response.status_code == 201
    (request,) = sent(models, model)
    assert roles_and_texts(request) == [("system", PROMPT), ("user", "Hi")]


def test_a_label_without_a_definition_changes_nothing(api: Api, label: str) -> None:
    id_ = api.conversation(agent_id=label)["id"]
    assert ask(api, id_)["turn"]["model"] == "default"
    (started,) = starts(api, id_)
    assert (started["agent"], started["tools"], started["temperature"]) == (None, [], None)


def test_each_turn_uses_the_definition_that_holds_when_it_starts(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(["Yes"])
    id_ = api.conversation(agent_id=label)["id"]
    for prompt in ("One", "Two"):
        define(api, label, system_prompt=prompt, model=model)
        ask(api, id_)
    api.http.delete(f"/v1/agents/{label}")
    ask(api, id_, model=model)
    system = [request["messages"][0]["content"] for request in sent(models, model)]
    assert system == ["One", "Two", "Hi"]
    versions = [start["agent"] and start["agent"]["version"] for start in starts(api, id_)]
    assert versions == [1, 2, None]


def test_a_queued_turn_is_resolved_when_it_starts(
    api: Api, given_model: GivenModel, models: ModelServer, label: str, threads: ThreadPoolExecutor
) -> None:
    first, later, named = given_model(Script(["Hold", Hang()])), given_model(["Late"]), given_model(["Named"])
    define(api, label, system_prompt="Before", model=first)
    id_ = api.conversation(agent_id=label)["id"]
    with api.stream(id_, first) as turn:
        for _ in range(2):
            next(turn.frames)
        waiting, queued = [], f"/v1/conversations/{id_}/turns"
        for count, body in enumerate([{}, {"model": named, "tools": []}], start=1):
            waiting.append(threads.submit(ask, api, id_, on_busy="queue", **body))
            eventually(
                lambda count=count: [turn["status"] for turn in api.get(queued)["data"]].count("queued") == count
            )
        define(api, label, system_prompt="After", model=later, tools=[ADD])
        running = next(turn["id"] for turn in api.get(queued)["data"] if turn["status"] == "running")
        api.http.post(f"{queued}/{running}/cancel")
        list(turn.frames)
    one, other = (future.result()["turn"] for future in waiting)
    assert (one["model"], other["model"]) == (later, named)
    assert api.get(f"/v1/conversations/{id_}/turns/{one['id']}")["model"] == later
    (request,) = sent(models, later)
    assert request["messages"][0] == {"role": "system", "content": "After"}
    assert [tool["function"]["name"] for tool in request["tools"]] == ["add"]
    (request,) = sent(models, named)
    assert request["messages"][0] == {"role": "system", "content": "After"}
    assert "tools" not in request


def test_a_queued_turn_whose_agent_is_deleted_starts_without_it(
    api: Api, given_model: GivenModel, models: ModelServer, label: str, threads: ThreadPoolExecutor
) -> None:
    first = given_model(Script(["Hold", Hang()]))
    define(api, label, system_prompt=PROMPT, model=first, temperature=0.25, tools=[ADD])
    id_ = api.conversation(agent_id=label)["id"]
    turns = f"/v1/conversations/{id_}/turns"
    with api.stream(id_, first) as turn:
        for _ in range(2):
            next(turn.frames)
        waiting = threads.submit(ask, api, id_, on_busy="queue")
        eventually(lambda: "queued" in [turn["status"] for turn in api.get(turns)["data"]])
        assert api.http.delete(f"/v1/agents/{label}").status_code == 204
        running = next(turn["id"] for turn in api.get(turns)["data"] if turn["status"] == "running")
        api.http.post(f"{turns}/{running}/cancel")
        list(turn.frames)
    assert waiting.result()["turn"]["model"] == "default"
    started = starts(api, id_)[-1]
    assert (started["agent"], started["tools"], started["temperature"]) == (None, [], None)


def test_a_turn_resumes_with_the_prompt_that_it_started_with(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(CALLS, ANSWER)
    define(api, label, system_prompt="Before", model=model, tools=[ADD, FIND])
    id_ = api.conversation(agent_id=label)["id"]
    turn = ask(api, id_)["turn"]
    assert turn["status"] == "requires_action"
    define(api, label, system_prompt="After", model="other")
    resumed = api.http.post(results_path(turn), json={"results": RESULTS})
    assert resumed.status_code == 200, resumed.text
    first, second = sent(models, model)
    assert first["messages"][0] == second["messages"][0] == {"role": "system", "content": "Before"}
    assert second["tools"] == first["tools"]


def test_an_answer_is_regenerated_with_the_settings_of_its_turn(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(["One"], ["Two"])
    define(api, label, system_prompt="Before", model=model)
    id_ = api.conversation(agent_id=label)["id"]
    answer = ask(api, id_)["assistant_message"]
    define(api, label, system_prompt="After", model="other")
    again = api.http.post(f"/v1/conversations/{id_}/messages/{answer['id']}/regenerate", json={})
    assert again.status_code == 201, again.text
    assert again.json()["turn"]["model"] == model
    assert [request["messages"][0]["content"] for request in sent(models, model)] == ["Before", "Before"]
    first, second = starts(api, id_)
    assert first["agent"] == second["agent"]


def test_the_prompt_of_a_deleted_agent_is_in_the_log_and_answers_again(
    api: Api, given_model: GivenModel, models: ModelServer, label: str, shared_database_url: str
) -> None:
    model = given_model(["One"], ["Two"])
    define(api, label, system_prompt=PROMPT, model=model)
    id_ = api.conversation(agent_id=label)["id"]
    answer = ask(api, id_)["assistant_message"]
    assert api.http.delete(f"/v1/agents/{label}").status_code == 204
    again = api.http.post(f"/v1/conversations/{id_}/messages/{answer['id']}/regenerate", json={})
    assert again.status_code == 201, again.text
    assert [request["messages"][0]["content"] for request in sent(models, model)] == [PROMPT, PROMPT]
    resolved = starts(api, id_)[-1]["agent"]
    prompt = "SELECT data ->> 'system_prompt' FROM events WHERE aggregate_id = %s AND version = %s"
    found = value(shared_database_url, prompt, [resolved["id"], resolved["version"]])
    assert sha256(found.encode()).hexdigest() == resolved["system_prompt_sha256"]


def test_a_question_without_an_answer_of_a_turn_is_answered_with_the_agent(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(["Arr"])
    define(api, label, system_prompt=PROMPT, model=model)
    id_ = api.conversation(agent_id=label)["id"]
    question = api.message(id_, "Hello")
    response = api.http.post(f"/v1/conversations/{id_}/messages/{question['id']}/regenerate", json={})
    assert response.status_code == 201, response.text
    (request,) = sent(models, model)
    assert roles_and_texts(request) == [("system", PROMPT), ("user", "Hello")]


def test_a_turn_of_a_client_records_the_agent_too(api: Api, label: str) -> None:
    define(api, label, system_prompt=PROMPT, model="their-model", tools=[ADD])
    id_ = api.conversation(agent_id=label)["id"]
    turn = ask(api, id_, generate=False)
    assert turn["model"] == "their-model"
    (started,) = starts(api, id_)
    assert (started["agent"]["label"], started["generate"]) == (label, False)
    assert [tool["name"] for tool in started["tools"]] == ["add"]


def test_the_prompt_counts_in_the_budget(api: Api, given_model: GivenModel, models: ModelServer, label: str) -> None:
    model = given_model(["Yes"])
    id_ = api.conversation(agent_id=label)["id"]
    for number in range(3):
        ask(api, id_, model=model, content=f"Question {number}: " + "why " * 100)
    whole = api.get(f"/v1/conversations/{id_}/context")
    define(api, label, system_prompt="word " * 100, model=model, max_context_tokens=whole["tokens"] + 50)
    shown = api.get(f"/v1/conversations/{id_}/context")
    assert shown["messages"][0] == {"role": "system", "content": "word " * 100}
    assert shown["dropped"] > whole["dropped"] == 0
    assert 100 <= shown["tokens"] <= whole["tokens"] + 50
    ask(api, id_)
    asked = sent(models, model)[-1]["messages"]
    assert asked[0] == shown["messages"][0]
    assert len(asked) < len(whole["messages"]) + 2


def test_the_context_of_an_empty_conversation_is_the_prompt(api: Api, label: str) -> None:
    id_ = api.conversation(agent_id=label)["id"]
    assert api.get(f"/v1/conversations/{id_}/context") == {"messages": [], "tokens": 0, "dropped": 0}
    define(api, label, system_prompt=PROMPT)
    shown = api.get(f"/v1/conversations/{id_}/context")
    assert shown["messages"] == [{"role": "system", "content": PROMPT}]
    assert shown["tokens"] > 0


def test_a_blank_prompt_is_not_sent(api: Api, given_model: GivenModel, models: ModelServer, label: str) -> None:
    model = given_model(["Yes"])
    define(api, label, system_prompt=" \n", model=model)
    ask(api, api.conversation(agent_id=label)["id"])
    (request,) = sent(models, model)
    assert roles_and_texts(request) == [("user", "Hi")]


def test_a_shared_agent_serves_conversations(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    shared, own = given_model(["Shared"]), given_model(["Own"])
    response = api.http.put(f"/v1/agents/{label}", params={"shared": "true"}, json={"model": shared})
    assert response.status_code == 201
    id_ = api.conversation(agent_id=label)["id"]
    assert ask(api, id_)["turn"]["model"] == shared
    define(api, label, model=own)
    assert ask(api, id_)["turn"]["model"] == own
    first, second = starts(api, id_)
    assert first["agent"]["id"] != second["agent"]["id"]
    api.http.delete(f"/v1/agents/{label}", params={"shared": "true"})


def test_a_refused_start_at_the_limit_calls_no_model(
    api: Api, given_model: GivenModel, models: ModelServer, label: str
) -> None:
    model = given_model(["Yes"])
    define(api, label, model=model, max_conversations=1)
    for status in (201, 409):
        response = api.http.post("/v1/turns", json={"content": "Hi", "agent_id": label})
        assert response.status_code == status, response.text
    check_problem(response, 409, "CONVERSATION_LIMIT_REACHED")
    assert len(sent(models, model)) == 1


def test_an_invalid_message_at_the_limit_takes_no_place(api: Api, label: str) -> None:
    define(api, label, max_conversations=1)
    check_problem(api.http.post("/v1/turns", json={"content": "", "agent_id": label}), 422, "VALIDATION_FAILED")
    started = api.http.post("/v1/turns", json={"content": "Hi", "agent_id": label, "generate": False})
    assert started.status_code == 201, started.text
