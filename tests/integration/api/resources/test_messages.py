"""Messages: add without a model, list, read and delete."""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.support.http.api_client import Api
from tests.support.http.resources import check_message, check_position, check_problem

PNG = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
IMAGE = {"type": "image", "media_type": "image/png", "data": PNG}


def test_a_message_has_every_field(api: Api, id_: str) -> None:
    response = api.http.post(f"/v1/conversations/{id_}/messages", json={"role": "user", "content": "Hi there"})
    assert response.status_code == 201
    check_position(response)
    message = response.json()
    check_message(message)
    added = {"conversation_id": id_, "role": "user", "author_id": "user:local", "status": "completed", "version": 2}
    assert message.items() >= {**added, "content": [{"type": "text", "text": "Hi there"}], "tokens": 2}.items()
    nothing = {message[name] for name in ("turn_id", "in_reply_to", "model", "usage", "finish_reason")}
    assert nothing == {None}


def test_a_message_updates_its_conversation(api: Api, id_: str) -> None:
    message = api.message(id_)
    conversation = api.get(f"/v1/conversations/{id_}")
    assert (conversation["message_count"], conversation["version"]) == (1, 2)
    assert conversation["last_message_at"] == conversation["updated_at"] == message["created_at"]


@pytest.mark.parametrize(
    ("role", "block"),
    [
        ("user", {"type": "text", "text": " é 🙂 \u2028 \ufeff "}),
        ("user", IMAGE),
        ("user", {"type": "image", "url": "https://example.com/a.png"}),
        ("user", {"type": "context", "data": {"page": {"items": [1, 2.5, None, "x"]}}}),
        ("assistant", {"type": "reasoning", "text": "Hm"}),
        ("assistant", {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}),
        ("tool", {"type": "tool_result", "tool_use_id": "call_1", "content": "2", "is_error": False}),
        ("system", {"type": "text", "text": "Be brief."}),
    ],
)
def test_a_block_is_returned_as_it_was_sent(api: Api, id_: str, role: str, block: dict[str, Any]) -> None:
    message = api.message(id_, [block], role)
    check_message(message)
    assert message["content"] == [block]
    assert api.get(f"/v1/conversations/{id_}/messages/{message['id']}") == message
    assert api.messages(id_) == [message]


def test_a_tool_result_is_not_an_error_by_default(api: Api, id_: str) -> None:
    block = {"type": "tool_result", "tool_use_id": "call_1", "content": "2"}
    assert api.message(id_, [block], "tool")["content"] == [{**block, "is_error": False}]


def test_an_assistants_message_answers_the_last_user_message(api: Api, id_: str) -> None:
    first = api.message(id_, "One")
    second = api.message(id_, "Two")
    answer = api.message(id_, "Answer", "assistant")
    assert (answer["in_reply_to"], answer["author_id"]) == (second["id"], None)
    assert api.message(id_, "Answer", "assistant", in_reply_to=first["id"])["in_reply_to"] == first["id"]


def test_a_message_cannot_reply_to_one_of_another_conversation(api: Api, id_: str) -> None:
    elsewhere = api.message(api.conversation()["id"])
    deleted = api.message(id_)
    api.http.delete(f"/v1/conversations/{id_}/messages/{deleted['id']}")
    for other in (elsewhere["id"], deleted["id"], str(uuid4())):
        body = {"role": "assistant", "content": "x", "in_reply_to": other}
        check_problem(api.http.post(f"/v1/conversations/{id_}/messages", json=body), 404, "MESSAGE_NOT_FOUND")
    assert api.messages(id_) == []


def test_the_history_is_in_the_order_of_recording(api: Api, id_: str) -> None:
    added = [api.message(id_, f"message {number}") for number in range(5)]
    assert api.messages(id_) == api.messages(id_, order="asc") == added
    assert api.messages(id_, order="desc") == added[::-1]
    assert api.messages(id_, include="superseded") == added


def test_a_deleted_message_leaves_the_history_and_stays_in_the_log(api: Api, id_: str) -> None:
    kept, removed = api.message(id_, "kept"), api.message(id_, "gone")
    path = f"/v1/conversations/{id_}/messages/{removed['id']}"
    response = api.http.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    check_position(response)
    assert api.messages(id_) == [kept]
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 1
    check_problem(api.http.get(path), 404, "MESSAGE_NOT_FOUND")
    check_problem(api.http.delete(path), 404, "MESSAGE_NOT_FOUND")
    types = [event["type"] for event in api.events(id_)]
    assert types == ["ConversationStarted", "MessageAdded", "MessageAdded", "MessageDeleted"]


def test_a_message_of_another_conversation_is_not_found(api: Api, id_: str) -> None:
    elsewhere = api.message(api.conversation()["id"])
    path = f"/v1/conversations/{id_}/messages/{elsewhere['id']}"
    check_problem(api.http.get(path), 404, "MESSAGE_NOT_FOUND")
    check_problem(api.http.delete(path), 404, "MESSAGE_NOT_FOUND")


def test_eight_concurrent_callers_lose_no_message(api: Api, id_: str) -> None:
    def add_ten(caller: int) -> list[int]:
        return [api.message(id_, f"{caller}:{number}")["version"] for number in range(10)]

    with ThreadPoolExecutor(8) as executor:
        versions = [version for added in executor.map(add_ten, range(8)) for version in added]
    assert sorted(versions) == list(range(2, 82))
    messages = api.messages(id_, limit=100)
    assert [message["version"] for message in messages] == list(range(2, 82))
    texts = [message["content"][0]["text"] for message in messages]
    assert sorted(texts) == sorted(f"{caller}:{number}" for caller in range(8) for number in range(10))
    for caller in range(8):
        assert [text for text in texts if text.startswith(f"{caller}:")] == [f"{caller}:{n}" for n in range(10)]
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 80
