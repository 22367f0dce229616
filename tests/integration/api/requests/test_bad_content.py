"""Invalid values of a conversation, message or turn are refused, and not recorded."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.refusals import CONVERSATION, TAKES_A_BODY, ask, check_invalid
from tests.support.http.resources import check_problem

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
TAKES_CONTENT = [(method, path, body) for method, path, body in TAKES_A_BODY if "content" in body]


@pytest.fixture(scope="module")
def id_(api: Api) -> Iterator[str]:
    """A conversation that accepts none of the requests of these tests."""
    id_ = api.conversation()["id"]
    yield id_
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", 5),
        ("title", True),
        ("title", ["x"]),
        ("title", "x" * 513),
        ("title", "a\0b"),
        ("metadata", None),
        ("metadata", []),
        ("metadata", "x"),
        ("metadata", {"a": "b\0"}),
        ("metadata", {"a\0": 1}),
        ("metadata", {"a": [{"b": ["\0"]}]}),
        ("metadata", {"a": "x" * 64 * 1024}),
        ("agent_id", 5),
        ("agent_id", {}),
        ("messages", {}),
        ("messages", [5]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": "x", "id": "y"}]),
        ("messages", [{"role": "robot", "content": "x"}]),
        ("messages", [{"role": "user", "content": "x"}] * 1001),
        ("messages", [{"role": "user", "content": ""}]),
    ],
)
def test_an_invalid_conversation_is_refused(api: Api, field: str, value: Any) -> None:
    check_invalid(api.http.post("/v1/conversations", json={field: value}), "body")


@pytest.mark.parametrize(
    ("content", "loc"),
    [
        ([], ["content"]),
        ("", ["content", 0, "text"]),
        ([{"type": "text", "text": "x"}, {"type": "text", "text": ""}], ["content", 1, "text"]),
        ([{"type": "reasoning", "text": "x"}], ["content", 0, "type"]),
        ([{"type": "image", "url": "ftp://x"}], ["content", 0, "url"]),
    ],
)
def test_a_bad_first_message_is_named_by_its_index(api: Api, content: Any, loc: list[Any]) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "user", "content": content}]
    check_invalid(api.http.post("/v1/conversations", json={"messages": messages}), "body", "messages", 1, *loc)


@pytest.mark.parametrize(("method", "path", "body"), TAKES_CONTENT)
@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        [],
        5,
        {},
        {"type": "text", "text": "x"},
        ["x"],
        [5],
        [{}],
        [{"type": "nothing"}],
        [{"text": "x"}],
        [{"type": "text"}],
        [{"type": "text", "text": ""}],
        [{"type": "text", "text": 5}],
        [{"type": "text", "text": "x", "more": 1}],
        [{"type": "text", "text": "x"}, {"type": "text", "text": ""}],
        [{"type": "context", "data": []}],
        [{"type": "context"}],
        [{"type": "image"}],
        [{"type": "image", "media_type": "image/png"}],
        [{"type": "image", "data": b64encode(PNG).decode()}],
        [{"type": "image", "url": "ftp://example.com/a.png"}],
        [{"type": "image", "url": "javascript:alert(1)"}],
        [{"type": "image", "url": "https://example.com/" + "x" * 9000}],
        [{"type": "image", "url": "https://x", "media_type": "image/png", "data": b64encode(PNG).decode()}],
        [{"type": "reasoning", "text": "x"}],
        [{"type": "tool_use", "id": "a", "name": "b", "input": {}}],
        [{"type": "tool_result", "tool_use_id": "a", "content": "b"}],
        "é" * (MIB // 2) + "x",
        [{"type": "text", "text": "x" * (MIB + 1)}],
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_content_of_a_user_is_refused(
    api: Api, id_: str, method: str, path: str, body: Any, content: Any
) -> None:
    check_invalid(ask(api, method, path, id_, json.dumps({**body, "content": content})), "body", "content")


@pytest.mark.parametrize("role", [None, "", "robot", "User", 5, [], "developer"])
def test_an_unknown_role_is_refused(api: Api, id_: str, role: Any) -> None:
    body = json.dumps({"role": role, "content": "x"})
    check_invalid(ask(api, "POST", f"{CONVERSATION}/messages", id_, body), "body", "role")


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", b"GIF89a" + bytes(16)),
        ("image/jpeg", PNG),
        ("image/webp", b"RIFF1234WAVE"),
        ("image/gif", b""),
        ("image/png", b"<svg></svg>"),
        ("image/svg+xml", b"<svg></svg>"),
        ("text/html", b"<script>"),
        ("", PNG),
    ],
)
def test_an_image_of_another_type_than_declared_is_refused(api: Api, id_: str, media_type: str, data: bytes) -> None:
    block = {"type": "image", "media_type": media_type, "data": b64encode(data).decode()}
    for path, body in [
        (f"{CONVERSATION}/messages", {"role": "user", "content": [block]}),
        (f"{CONVERSATION}/turns", {"content": [block]}),
        ("/v1/turns", {"content": [block]}),
        ("/v1/conversations", {"messages": [{"role": "user", "content": [block]}]}),
    ]:
        check_problem(ask(api, "POST", path, id_, json.dumps(body)), 415, "UNSUPPORTED_IMAGE")


@pytest.mark.parametrize("data", ["!", "é", "iVBORw0KGgo", "aGk=\n", "data:image/png;base64,iVBORw0KGgo="])
def test_an_image_that_is_not_base64_is_refused(api: Api, id_: str, data: str) -> None:
    block = {"type": "image", "media_type": "image/png", "data": data}
    body = json.dumps({"role": "user", "content": [block]})
    check_problem(ask(api, "POST", f"{CONVERSATION}/messages", id_, body), 415, "UNSUPPORTED_IMAGE")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "yes"),
        ("stream", 1),
        ("generate", "no"),
        ("model", ""),
        ("model", 5),
        ("model", "x" * 257),
        ("temperature", -1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("max_output_tokens", 0),
        ("max_output_tokens", 1.5),
        ("max_context_tokens", -1),
        ("max_context_tokens", 10**30),
        ("metadata", []),
        ("on_busy", "wait"),
    ],
)
def test_an_invalid_turn_is_refused(api: Api, id_: str, field: str, value: Any) -> None:
    for path in (f"{CONVERSATION}/turns", "/v1/turns"):
        check_invalid(ask(api, "POST", path, id_, json.dumps({"content": "x", field: value})), "body", field)


@pytest.mark.parametrize("in_reply_to", ["x", "", 5, "\0", [], "0" * 31])
def test_a_malformed_id_in_a_body_is_refused(api: Api, id_: str, in_reply_to: Any) -> None:
    body = json.dumps({"role": "user", "content": "x", "in_reply_to": in_reply_to})
    check_invalid(ask(api, "POST", f"{CONVERSATION}/messages", id_, body), "body", "in_reply_to")


def test_a_refused_turn_does_not_lock_the_conversation(api: Api, given_model: GivenModel) -> None:
    id_ = api.conversation()["id"]
    check_invalid(api.turn(id_, "default", content=""), "body", "content")
    assert api.turn(id_, given_model(["x"])).status_code == 201
