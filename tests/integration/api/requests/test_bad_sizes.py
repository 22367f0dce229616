"""Bodies and texts at their size limits, over them, and cut off."""

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.http.api_client import Api
from tests.support.http.refusals import CONVERSATION, JSON, TAKES_A_BODY, ask
from tests.support.http.resources import check_problem

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


@pytest.fixture(scope="module")
def id_(api: Api) -> Iterator[str]:
    """A conversation that accepts none of the requests of these tests."""
    id_ = api.conversation()["id"]
    yield id_
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]


def test_the_largest_texts_are_accepted(api: Api) -> None:
    title, text = "é" * 512, "x" * MIB
    metadata = {"a": "x" * (64 * 1024 - len('{"a":""}'))}
    started = api.conversation(title=title, metadata=metadata)
    assert (started["title"], started["metadata"]) == (title, metadata)
    for content in (text, "é" * (MIB // 2)):
        message = api.message(started["id"], content)
        assert message["content"][0]["text"] == content
        assert api.get(f"/v1/conversations/{started['id']}/messages/{message['id']}") == message


def test_the_largest_body_is_accepted_and_one_byte_more_is_refused(api: Api) -> None:
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
def test_a_body_that_is_cut_off_records_nothing(api: Api, sent: bytes) -> None:
    before = api.get("/readyz")["position"]
    address = urlsplit(str(api.http.base_url))
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = b"POST /v1/conversations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 99\r\n\r\n" + sent)
    for _ in range(20):
        api.get("/healthz")
    assert api.get("/readyz")["position"] == before
