"""The context resource returns exactly the messages that a model would be sent."""

from typing import Any

import pytest

from domain.tools import UNANSWERED
from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.models.model_scripts import Script
from tests.support.models.model_server import ModelServer
from tests.support.models.openai_rules import check_openai
from tests.support.models.openai_tokens import openai_tokens


def chat_message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


@pytest.fixture(scope="module")
def id_(api: Api) -> str:
    """A conversation of a system message and four questions with answers. Read only."""
    turns = [
        message
        for n in range(4)
        for message in (chat_message("user", f"Ask{n}"), chat_message("assistant", f"Answer{n}"))
    ]
    return api.conversation(messages=[chat_message("system", "Be brief."), *turns])["id"]


def test_the_context_of_an_empty_conversation_is_empty(api: Api) -> None:
    id_ = api.conversation()["id"]
    assert api.get(f"/v1/conversations/{id_}/context") == {"messages": [], "tokens": 0, "dropped": 0}


def test_the_whole_conversation_is_sent_if_it_fits(api: Api, id_: str) -> None:
    context = api.get(f"/v1/conversations/{id_}/context")
    assert context.keys() == {"messages", "tokens", "dropped"}
    assert [message["role"] for message in context["messages"]] == ["system", *["user", "assistant"] * 4]
    assert context["tokens"] == openai_tokens(context["messages"])
    assert context["dropped"] == 0


def test_a_budget_drops_the_oldest_and_keeps_system_messages(api: Api, id_: str) -> None:
    system, *long_chat = api.get(f"/v1/conversations/{id_}/context")["messages"]
    budget = openai_tokens([system, *long_chat[4:]])
    context = api.get(f"/v1/conversations/{id_}/context", max_tokens=budget)
    assert context == {"messages": [system, *long_chat[4:]], "tokens": budget, "dropped": 4}
    context = api.get(f"/v1/conversations/{id_}/context", max_tokens=budget - 1)
    assert (context["messages"], context["dropped"]) == ([system, *long_chat[6:]], 6)


def test_the_newest_question_is_sent_even_if_it_does_not_fit(api: Api, id_: str) -> None:
    context = api.get(f"/v1/conversations/{id_}/context", max_tokens=1)
    assert [message["content"] for message in context["messages"]] == ["Be brief.", "Ask3", "Answer3"]


def test_the_context_can_be_limited_to_the_last_messages(api: Api, id_: str) -> None:
    context = api.get(f"/v1/conversations/{id_}/context", last=4)
    assert [message["content"] for message in context["messages"][1:]] == ["Ask2", "Answer2", "Ask3", "Answer3"]
    assert context["dropped"] == 4


def test_the_limit_of_the_model_applies(api: Api, id_: str) -> None:
    for model in ("gpt-4o", "turnlog/demo", "nobody/knows", "💥"):
        assert len(api.get(f"/v1/conversations/{id_}/context", model=model)["messages"]) == 9


def test_the_context_equals_the_messages_that_the_model_gets(
    api: Api, given_model: GivenModel, models: ModelServer
) -> None:
    blocks = [
        {"type": "text", "text": "Look:"},
        {"type": "context", "data": {"page": 1}},
        {"type": "image", "url": "https://example.com/a.png"},
    ]
    call = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
    id_ = api.conversation(messages=[chat_message("user", "One")])["id"]
    api.message(id_, [{"type": "reasoning", "text": "Hm"}, {"type": "text", "text": "Let me see."}, call], "assistant")
    api.message(id_, [{"type": "tool_result", "tool_use_id": "call_1", "content": "2"}], "tool")
    api.message(id_, "It is 2.", "assistant")
    deleted = api.message(id_, "gone")
    api.http.delete(f"/v1/conversations/{id_}/messages/{deleted['id']}")
    api.message(id_, blocks)
    model = given_model(["x"])
    expected = api.get(f"/v1/conversations/{id_}/context")["messages"]
    assert api.turn(id_, model, content="Well?").status_code == 201
    (request,) = [request for request in models.requests if request.model == model]
    *before, question = expected
    parts = [*question["content"], {"type": "text", "text": "Well?"}]
    assert request.body["messages"] == [*before, {"role": "user", "content": parts}]
    assert "Hm" not in str(expected) and "gone" not in str(expected)


def test_any_recorded_conversation_can_be_sent_to_a_model(
    api: Api, given_model: GivenModel, models: ModelServer
) -> None:
    calls = [{"type": "tool_use", "id": f"call_{n}", "name": "add", "input": {"a": n}} for n in (1, 2)]
    result = {"type": "tool_result", "tool_use_id": "call_2", "content": "no such number", "is_error": True}
    id_ = api.conversation()["id"]
    api.message(id_, [result], "tool")
    api.message(id_, "One")
    api.message(id_, calls, "assistant")
    api.message(id_, [{"type": "reasoning", "text": "Hm"}], "assistant")
    api.message(id_, "Still there?")
    api.message(id_, [result, result], "tool")
    api.message(id_, "Be brief.", "system")
    context = api.get(f"/v1/conversations/{id_}/context")
    sent = context["messages"]
    check_openai(sent)
    assert [message["content"] for message in sent] == [
        "Be brief.",
        "One",
        None,
        UNANSWERED,
        "Error: no such number",
        "Still there?",
    ]
    assert (context["tokens"], context["dropped"]) == (openai_tokens(sent), 1)
    model = given_model(["x"])
    assert api.turn(id_, model, content="Well?").status_code == 201
    (request,) = [request for request in models.requests if request.model == model]
    sent[2].pop("content")  # litellm leaves out fields that are None
    assert request.body["messages"] == [*sent[:-1], chat_message("user", "Still there?\n\nWell?")]


def test_the_limit_of_the_model_leaves_room_for_its_longest_answer(api: Api, models: ModelServer) -> None:
    words = "The quick brown fox jumps over the lazy dog. " * 10
    long_chat = [chat_message("user", words), chat_message("assistant", words)] * 50
    id_ = api.conversation(messages=long_chat)["id"]
    context = api.get(
        f"/v1/conversations/{id_}/context", model="gpt-4"
    )  # a model with 8,192 tokens of context and at most 4,096 of output
    assert 0.95 * 4096 < context["tokens"] <= 4096
    assert context["dropped"] > 0
    models.script("gpt-4", Script(["x"]))
    assert api.turn(id_, "gpt-4", content="Well?", max_output_tokens=192).status_code == 201
    (request,) = [request for request in models.requests if request.model == "gpt-4"]
    assert 0.95 * 8000 < openai_tokens(request.body["messages"]) <= 8000


def test_the_tools_of_a_turn_count_towards_its_budget(api: Api, given_model: GivenModel, models: ModelServer) -> None:
    turns = [
        message
        for n in range(4)
        for message in (chat_message("user", f"Ask{n}"), chat_message("assistant", f"Answer{n}"))
    ]
    messages = [*turns, chat_message("user", "Well?")]
    tool = {"name": "f", "description": "Does much. " * 20, "input_schema": {"type": "object"}}
    for tools, left in (([], 9), ([tool], 1)):
        model = given_model(["x"])
        id_ = api.conversation(messages=turns)["id"]
        settings = {"content": "Well?", "tools": tools, "max_context_tokens": openai_tokens(messages)}
        assert api.turn(id_, model, **settings).status_code == 201
        (request,) = [request for request in models.requests if request.model == model]
        assert request.body["messages"] == messages[-left:]


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_tokens", "0"), ("max_tokens", "x"), ("last", "0"), ("last", "-1"), ("model", ""), ("as_of", "-1")],
)
def test_a_malformed_parameter_is_refused(api: Api, id_: str, name: str, value: str) -> None:
    problem = check_problem(
        api.http.get(f"/v1/conversations/{id_}/context", params={name: value}), 422, "VALIDATION_FAILED"
    )
    assert problem["errors"][0]["loc"] == ["query", name]
