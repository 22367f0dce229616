"""Invalid parameters, ids and headers are refused with the right code."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest

from tests.support.http.api_client import Api
from tests.support.http.refusals import CONVERSATION, ROUTES, TAKES_A_BODY, TAKES_A_QUERY, ask, check_invalid
from tests.support.http.resources import check_problem

UNKNOWN_ID = "01890000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def id_(api: Api) -> Iterator[str]:
    """A conversation that accepts none of the requests of these tests."""
    id_ = api.conversation()["id"]
    yield id_
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]


@pytest.mark.parametrize(("method", "path"), TAKES_A_QUERY)
@pytest.mark.parametrize("name", ["unknown", "as-of", "%00", "%ff", "limit%00", "metadata", "Metadata.x"])
def test_an_unknown_parameter_is_refused(api: Api, id_: str, method: str, path: str, name: str) -> None:
    check_invalid(api.http.request(method, f"{path.format(id=id_)}?{name}=1"), "query")


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route not in TAKES_A_QUERY])
def test_a_parameter_of_a_route_without_parameters_is_refused(api: Api, id_: str, method: str, path: str) -> None:
    bodies = {(method, path): body for method, path, body in TAKES_A_BODY}
    response = api.http.request(
        method, path.format(id=id_, other=uuid4()), params={"unknown": "1"}, json=bodies.get((method, path))
    )
    check_invalid(response, "query", "unknown")


@pytest.mark.parametrize(("method", "path"), TAKES_A_QUERY)
def test_a_repeated_parameter_is_refused(api: Api, id_: str, method: str, path: str) -> None:
    check_invalid(api.http.request(method, f"{path.format(id=id_)}?limit=1&limit=2"), "query", "limit")


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
def test_an_invalid_filter_is_refused(api: Api, query: str) -> None:
    name = unquote(query.partition("=")[0])
    check_invalid(api.http.get(f"/v1/conversations?{query}"), "query", name)


@pytest.mark.parametrize("query", ["q=%ff", "q=%ed%a0%80", "metadata.a=%ff", "metadata.=x", "metadata.a=", "&&", "="])
def test_an_unusual_filter_is_answered(api: Api, query: str) -> None:
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
def test_an_unknown_id_is_not_found(api: Api, id_: str, path: str, code: str, unknown: str) -> None:
    check_problem(api.http.get(path.format(id=unknown, known=id_)), 404, code)


@pytest.mark.parametrize(("method", "path", "body"), TAKES_A_BODY[1:4])
def test_a_write_to_an_unknown_conversation_is_not_found(api: Api, method: str, path: str, body: Any) -> None:
    for unknown in (str(uuid4()), "x"):
        check_problem(ask(api, method, path, unknown, json.dumps(body)), 404, "CONVERSATION_NOT_FOUND")
    for other in (CONVERSATION, f"{CONVERSATION}/messages/{uuid4()}"):
        check_problem(api.http.delete(other.format(id=uuid4())), 404, "CONVERSATION_NOT_FOUND")


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "Turnlog-Position", "If-Match", "X-Request-ID", "Accept", "X-Other"]
)
@pytest.mark.parametrize("value", [b"\xff", b"a\x01b", b"'\"", b"x" * 5000, "💥".encode()])
def test_an_unusual_header_is_answered(api: Api, id_: str, name: str, value: bytes) -> None:
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
