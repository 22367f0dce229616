"""Whatever a client sends, the answer is a clear problem with the right code and nothing is recorded; never a 500."""

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.api.conftest import GivenModel
from tests.support.api_client import Api
from tests.support.resources import check_problem

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
MIB = 1024 * 1024
UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"
CONVERSATION = "/v1/conversations/{id}"
TAKES_A_BODY = [
    ("POST", "/v1/conversations", {}),
    ("PATCH", CONVERSATION, {}),
    ("POST", f"{CONVERSATION}/messages", {"role": "user", "content": "x"}),
    ("POST", f"{CONVERSATION}/turns", {"content": "x"}),
    ("POST", "/v1/turns", {"content": "x"}),
]
TAKES_CONTENT = [(method, path, body) for method, path, body in TAKES_A_BODY if "content" in body]
TAKES_A_QUERY = [
    ("GET", "/v1/conversations"),
    ("DELETE", "/v1/conversations"),
    ("GET", f"{CONVERSATION}/messages"),
    ("GET", f"{CONVERSATION}/turns"),
    ("GET", f"{CONVERSATION}/context"),
    ("GET", f"{CONVERSATION}/log"),
]
ROUTES = [
    *[(method, path) for method, path, _ in TAKES_A_BODY],
    *TAKES_A_QUERY,
    ("GET", CONVERSATION),
    ("DELETE", CONVERSATION),
    ("GET", f"{CONVERSATION}/messages/{{other}}"),
    ("DELETE", f"{CONVERSATION}/messages/{{other}}"),
    ("GET", f"{CONVERSATION}/turns/{{other}}"),
    ("POST", f"{CONVERSATION}/turns/{{other}}/cancel"),
]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def id_(api: Api) -> str:
    """A conversation that refuses everything that these tests send to it."""
    return api.conversation()["id"]


def ask(api: Api, method: str, path: str, id_: str, content: bytes | str, **headers: str) -> httpx.Response:
    return api.http.request(method, path.format(id=id_), content=content, headers={**JSON, **headers})


def check_invalid(response: httpx.Response, *loc: str | int) -> None:
    """Hold a refusal against the shape of a validation problem; one of its errors must be at `loc`."""
    problem = check_problem(response, 422, "VALIDATION_FAILED")
    assert problem["errors"]
    if loc:
        assert list(loc) in [error["loc"][: len(loc)] for error in problem["errors"]]


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"nonsense",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{} {}",
        b"{'single': 1}",
        b"{,}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"\0",
        b'{"title": "\xff"}',
        b'{"content": "\xc3"}',
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"metadata": ' + b'{"a":' * 100_000,
        b'{"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"metadata": {"n": ' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_no_json_of_the_right_kind_is_refused(
    api: Api, id_: str, method: str, path: str, body: Any, content: bytes
) -> None:
    check_invalid(ask(api, method, path, id_, content), "body")


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
def test_an_unknown_field_is_refused(api: Api, id_: str, method: str, path: str, body: Any) -> None:
    check_invalid(ask(api, method, path, id_, json.dumps({**body, "unknown": 1})), "body", "unknown")


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml", "é"])
def test_a_body_that_is_not_called_json_is_refused(
    api: Api, id_: str, method: str, path: str, body: Any, media_type: str
) -> None:
    headers = {b"Content-Type": media_type.encode()}
    response = api.http.request(method, path.format(id=id_), content=json.dumps(body) or b"{}", headers=headers)
    check_invalid(response, "header", "Content-Type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"])
def test_json_may_be_called_so_in_other_words(api: Api, media_type: str) -> None:
    response = api.http.post("/v1/conversations", content=b"{}", headers={"Content-Type": media_type})
    assert response.status_code == 201


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
def test_a_conversation_cannot_start_with(api: Api, field: str, value: Any) -> None:
    check_invalid(api.http.post("/v1/conversations", json={field: value}), "body")


@pytest.mark.parametrize(
    "text",
    [r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00x"', r'"\ud83d"', r'"\ud83d\u0041"'],
    ids=["nul", "inner nul", "high surrogate", "low surrogate", "half an emoji", "broken pair"],
)
def test_characters_that_no_database_holds_are_refused_anywhere(api: Api, id_: str, text: str) -> None:
    bodies = [
        ("POST", "/v1/conversations", f'{{"title": {text}}}'),
        ("POST", "/v1/conversations", f'{{"metadata": {{"key": {text}}}}}'),
        ("POST", "/v1/conversations", f'{{"metadata": {{{text}: 1}}}}'),
        ("POST", "/v1/conversations", f'{{"agent_id": {text}}}'),
        ("PATCH", CONVERSATION, f'{{"title": {text}}}'),
        ("PATCH", CONVERSATION, f'{{"metadata": {{"key": [{text}]}}}}'),
        ("POST", f"{CONVERSATION}/turns", f'{{"content": "x", "model": {text}}}'),
        ("POST", f"{CONVERSATION}/turns", f'{{"content": "x", "metadata": {{{text}: 1}}}}'),
    ]
    contents = [
        text,
        f'[{{"type": "text", "text": {text}}}]',
        f'[{{"type": "context", "data": {{"a": {text}}}}}]',
        f'[{{"type": "context", "data": {{{text}: 1}}}}]',
        f'[{{"type": "image", "url": {text}}}]',
        f'[{{"type": "image", "media_type": "image/png", "data": {text}}}]',
        f'[{{"type": "image", "media_type": {text}, "data": "x"}}]',
        f'[{{"type": {text}}}]',
    ]
    messages = [
        ("POST", f"{CONVERSATION}/messages", f'{{"role": "user", "content": {content}}}') for content in contents
    ]
    turns = [("POST", f"{CONVERSATION}/turns", f'{{"content": {content}}}') for content in contents]
    tool = f'[{{"type": "tool_use", "id": {text}, "name": {text}, "input": {{"a": {text}}}}}]'
    result = f'[{{"type": "tool_result", "tool_use_id": {text}, "content": {text}}}]'
    others = [
        ("POST", f"{CONVERSATION}/messages", f'{{"role": "assistant", "content": {tool}}}'),
        ("POST", f"{CONVERSATION}/messages", f'{{"role": "tool", "content": {result}}}'),
        ("POST", f"{CONVERSATION}/messages", f'{{"role": {text}, "content": "x"}}'),
    ]
    for method, path, body in [*bodies, *messages, *turns, *others]:
        response = ask(api, method, path, id_, body)
        assert response.status_code in {415, 422}, (body, response.text)
        check_problem(response, response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1e99999999999", "01", "+1", ".5"]
)
def test_numbers_that_are_no_json_or_have_no_end_are_refused(api: Api, id_: str, number: str) -> None:
    check_invalid(ask(api, "POST", "/v1/conversations", id_, f'{{"metadata": {{"n": {number}}}}}'), "body")
    context = f'{{"role": "user", "content": [{{"type": "context", "data": {{"n": {number}}}}}]}}'
    check_invalid(ask(api, "POST", f"{CONVERSATION}/messages", id_, context), "body")
    for name in ("temperature", "max_output_tokens", "max_context_tokens"):
        check_invalid(ask(api, "POST", f"{CONVERSATION}/turns", id_, f'{{"content": "x", "{name}": {number}}}'), "body")


@pytest.mark.parametrize(
    "number", ["0", "-0.0", "1e308", "5e-324", "0.1", "9007199254740993", "18446744073709551616", "-1" + "0" * 400]
)
def test_a_number_that_can_be_held_comes_back(api: Api, number: str) -> None:
    content = f'[{{"type": "context", "data": {{"n": {number}}}}}]'
    body = f'{{"metadata": {{"n": {number}}}, "messages": [{{"role": "user", "content": {content}}}]}}'
    started = _decimal(ask(api, "POST", "/v1/conversations", "", body))
    assert started["metadata"] == {"n": Decimal(number)}
    path = f"/v1/conversations/{started['id']}"
    assert _decimal(api.http.get(path)) == started
    (message,) = _decimal(api.http.get(f"{path}/messages"))["data"]
    assert message["content"][0]["data"] == {"n": Decimal(number)}
    assert _decimal(api.http.get(f"{path}/log"))["data"][0]["data"]["metadata"] == {"n": Decimal(number)}
    assert _decimal(api.http.get(f"{path}/context"))["dropped"] == 0
    again = _decimal(api.http.patch(path, json={"title": "T"}))
    assert again["metadata"] == started["metadata"]
    assert _decimal(api.http.get("/v1/conversations", params={"limit": 1}))["data"] == [again]


def _decimal(response: httpx.Response) -> Any:
    """Return an answer with its numbers as they are written."""
    assert response.is_success, response.text
    return json.loads(response.content, parse_float=Decimal, parse_int=Decimal)


def test_a_number_too_small_for_a_float_is_zero(api: Api) -> None:
    assert ask(api, "POST", "/v1/conversations", "", '{"metadata": {"n": 1e-400}}').json()["metadata"] == {"n": 0}


def test_of_a_key_that_is_there_twice_the_last_counts(api: Api, id_: str) -> None:
    body = '{"title": "One", "metadata": {"a": 1, "a": 2}, "title": "Two"}'
    started = ask(api, "POST", "/v1/conversations", id_, body).json()
    assert (started["title"], started["metadata"]) == ("Two", {"a": 2})
    assert api.get(f"/v1/conversations/{started['id']}") == started


def test_metadata_may_be_nested_a_little_and_not_a_lot(api: Api) -> None:
    def nested(levels: int) -> str:
        return '{"metadata": ' + '{"a":' * levels + "1" + "}" * (levels + 1)

    assert ask(api, "POST", "/v1/conversations", "", nested(60)).status_code == 201
    check_invalid(ask(api, "POST", "/v1/conversations", "", nested(100)), "body", "metadata")


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
def test_a_users_content_cannot_be(api: Api, id_: str, method: str, path: str, body: Any, content: Any) -> None:
    check_invalid(ask(api, method, path, id_, json.dumps({**body, "content": content})), "body", "content")


@pytest.mark.parametrize("role", [None, "", "robot", "User", 5, [], "developer"])
def test_a_role_is_one_of_four(api: Api, id_: str, role: Any) -> None:
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
def test_an_image_whose_bytes_are_not_what_they_say_is_refused(
    api: Api, id_: str, media_type: str, data: bytes
) -> None:
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
        ("generate", False),
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
def test_a_turn_cannot_be_asked_for_with(api: Api, id_: str, field: str, value: Any) -> None:
    for path in (f"{CONVERSATION}/turns", "/v1/turns"):
        check_invalid(ask(api, "POST", path, id_, json.dumps({"content": "x", field: value})), "body", field)


def test_the_largest_texts_are_taken(api: Api) -> None:
    title, text = "é" * 512, "x" * MIB
    metadata = {"a": "x" * (64 * 1024 - len('{"a":""}'))}
    started = api.conversation(title=title, metadata=metadata)
    assert (started["title"], started["metadata"]) == (title, metadata)
    for content in (text, "é" * (MIB // 2)):
        message = api.message(started["id"], content)
        assert message["content"][0]["text"] == content
        assert api.get(f"/v1/conversations/{started['id']}/messages/{message['id']}") == message


def test_the_largest_body_is_taken_and_one_byte_more_is_not(api: Api) -> None:
    id_ = api.conversation()["id"]
    path = f"{CONVERSATION}/messages"
    block = {"type": "image", "media_type": "image/png", "data": ""}
    body = json.dumps({"role": "user", "content": [block]}).encode()
    room = (10 * MIB - len(body)) // 4 * 4
    body = body.replace(b'"data": ""', b'"data": "' + b64encode(PNG.ljust(room // 4 * 3, b"\0")) + b'"')
    body += b" " * (10 * MIB - len(body))
    assert ask(api, "POST", path, id_, body).status_code == 201
    check_problem(ask(api, "POST", path, id_, body + b" "), 413, "PAYLOAD_TOO_LARGE")
    assert len(api.messages(id_)) == 1


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY)
def test_a_body_of_unknown_length_is_refused_once_it_is_too_long(
    api: Api, id_: str, method: str, path: str, body: Any
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield b" " * MIB

    response = api.http.request(method, path.format(id=id_), content=chunks(), headers=JSON)
    check_problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_a_body_of_unknown_length_is_read_to_its_end(api: Api) -> None:
    response = api.http.post("/v1/conversations", content=iter([b'{"ti', b'tle": "T', b'"}']), headers=JSON)
    assert response.json()["title"] == "T"


@pytest.mark.parametrize("sent", [b"", b"{}", b'{"title": "half'])
def test_a_body_that_breaks_off_records_nothing(api: Api, sent: bytes) -> None:
    before = api.get("/readyz")["position"]
    address = urlsplit(str(api.http.base_url))
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 99\r\n\r\n" + sent)
    for _ in range(20):
        api.get("/healthz")
    assert api.get("/readyz")["position"] == before


@pytest.mark.parametrize(("method", "path"), TAKES_A_QUERY)
@pytest.mark.parametrize("name", ["unknown", "as_of", "%00", "%ff", "limit%00", "metadata", "Metadata.x"])
def test_an_unknown_parameter_is_refused(api: Api, id_: str, method: str, path: str, name: str) -> None:
    check_invalid(api.http.request(method, f"{path.format(id=id_)}?{name}=1"), "query")


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route not in TAKES_A_QUERY])
def test_a_parameter_where_none_is_known_is_refused(api: Api, id_: str, method: str, path: str) -> None:
    bodies = {(method, path): body for method, path, body in TAKES_A_BODY}
    response = api.http.request(
        method, path.format(id=id_, other=uuid4()), params={"as_of": "1"}, json=bodies.get((method, path))
    )
    check_invalid(response, "query", "as_of")


@pytest.mark.parametrize(("method", "path"), TAKES_A_QUERY)
def test_a_parameter_that_is_there_twice_is_refused(api: Api, id_: str, method: str, path: str) -> None:
    check_invalid(api.http.request(method, f"{path.format(id=id_)}?limit=1&limit=2"), "query")


@pytest.mark.parametrize(
    "query",
    [
        "q=%00",
        "q=a%00b",
        "q=",
        "q=" + "x" * 513,
        "agent_id=%00",
        "agent_id=a%20b",
        "metadata.a=%00",
        "metadata.%00=a",
        "metadata." + "x" * 300 + "=1",
    ],
)
def test_a_filter_that_cannot_match_is_refused(api: Api, query: str) -> None:
    check_invalid(api.http.get(f"/v1/conversations?{query}"), "query")


@pytest.mark.parametrize("query", ["q=%ff", "q=%ed%a0%80", "metadata.a=%ff", "metadata.=x", "metadata.a=", "&&", "="])
def test_an_odd_filter_breaks_nothing(api: Api, query: str) -> None:
    response = api.http.get(f"/v1/conversations?{query}")
    assert response.status_code in {200, 422}, response.text


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (CONVERSATION, "CONVERSATION_NOT_FOUND"),
        (f"{CONVERSATION}/messages", "CONVERSATION_NOT_FOUND"),
        (f"{CONVERSATION}/turns", "CONVERSATION_NOT_FOUND"),
        (f"{CONVERSATION}/context", "CONVERSATION_NOT_FOUND"),
        (f"{CONVERSATION}/log", "CONVERSATION_NOT_FOUND"),
        ("/v1/conversations/{known}/messages/{id}", "MESSAGE_NOT_FOUND"),
        ("/v1/conversations/{known}/turns/{id}", "TURN_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize(
    "unknown", [UNKNOWN_ID, "x", "%00", "%ff", "null", "0", "'; DROP TABLE events; --", "x" * 5000, "💥", "1" * 36]
)
def test_an_id_that_names_nothing_is_not_found(api: Api, id_: str, path: str, code: str, unknown: str) -> None:
    check_problem(api.http.get(path.format(id=unknown, known=id_)), 404, code)


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY[1:4])
def test_a_write_to_an_unknown_conversation_is_not_found(api: Api, method: str, path: str, body: Any) -> None:
    for unknown in (str(uuid4()), "x"):
        check_problem(ask(api, method, path, unknown, json.dumps(body)), 404, "CONVERSATION_NOT_FOUND")
    for other in (CONVERSATION, f"{CONVERSATION}/messages/{uuid4()}"):
        check_problem(api.http.delete(other.format(id=uuid4())), 404, "CONVERSATION_NOT_FOUND")


@pytest.mark.parametrize("in_reply_to", ["x", "", 5, "\0", [], "0" * 31])
def test_a_malformed_id_in_a_body_is_refused(api: Api, id_: str, in_reply_to: Any) -> None:
    body = json.dumps({"role": "user", "content": "x", "in_reply_to": in_reply_to})
    check_invalid(ask(api, "POST", f"{CONVERSATION}/messages", id_, body), "body", "in_reply_to")


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "Turnlog-Position", "If-Match", "X-Request-ID", "Accept", "X-Other"]
)
@pytest.mark.parametrize("value", [b"\xff", b"a\x01b", b"'\"", b"x" * 5000, "💥".encode()])
def test_an_odd_header_breaks_nothing(api: Api, id_: str, name: str, value: bytes) -> None:
    address = urlsplit(str(api.http.base_url))
    for method, path in ROUTES:
        query = "?agent_id=nobody" if (method, path) == ("DELETE", "/v1/conversations") else ""
        request = (
            f"{method} {path.format(id=uuid4(), other=uuid4())}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        )
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(request.encode() + name.encode() + b": " + value + b"\r\nContent-Length: 0\r\n\r\n")
            answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert 200 <= int(answer.split()[1]) < 500


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["user", "text", "image", "image/png", "asc", "\0", "\ud800", "turnlog/demo", "", "1e999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "title",
        "metadata",
        "agent_id",
        "messages",
        "role",
        "content",
        "in_reply_to",
        "type",
        "text",
        "media_type",
        "data",
        "url",
        "id",
        "name",
        "input",
        "temperature",
        "max_output_tokens",
        "max_context_tokens",
        "tool_use_id",
        "is_error",
        "on_busy",
        "generate",
    ]
)
bodies = st.dictionaries(names, values | st.lists(st.dictionaries(names, values, max_size=4), max_size=2), max_size=5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize(("method", "path"), ROUTES)
@given(body=bodies, parameters=st.dictionaries(st.sampled_from(["limit", "cursor", "q", "order", "last"]), st.text()))
def test_no_request_breaks_the_server(
    api: Api, method: str, path: str, body: dict[str, Any], parameters: dict[str, str]
) -> None:
    query = {name: value.encode("utf-8", "replace").decode() for name, value in parameters.items()}
    if (method, path) == ("DELETE", "/v1/conversations"):
        query["agent_id"] = "nobody"
    response = api.http.request(
        method,
        path.format(id=uuid4(), other=uuid4()),
        params=query if method != "POST" else None,
        content=json.dumps({**body, "model": "no-such-model"} if path.endswith("turns") else body),
        headers=JSON,
    )
    assert response.status_code < 500 or response.json()["code"] == "MODEL_ERROR", response.text
    if response.status_code >= 400:
        check_problem(response, response.status_code, response.json()["code"], *_members(response))


def _members(response: httpx.Response) -> list[str]:
    return ["conversation_id", "turn_id", "error"] if response.status_code == 502 else []


def test_a_turn_that_is_refused_leaves_the_conversation_free(api: Api, given_model: GivenModel) -> None:
    id_ = api.conversation()["id"]
    check_invalid(api.turn(id_, "default", content=""), "body", "content")
    assert api.turn(id_, given_model(["x"])).status_code == 201


def test_what_was_refused_was_not_recorded(api: Api, id_: str) -> None:
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]
