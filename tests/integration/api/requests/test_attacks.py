"""Requests that try to get past the server: each gets a clear problem."""

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.servers.raw_http import Answer, RawConnection

HOST = b"Host: localhost\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/conversations HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
INSIDES = (b"Traceback", b"site-packages", b"psycopg", b'File "', b"SELECT ", b"Error:")


@pytest.fixture
def raw(api: Api) -> Iterator[RawConnection]:
    """A raw connection for this test."""
    with RawConnection(str(api.http.base_url)) as raw:
        yield raw


def check_clear(answer: Answer, *statuses: int) -> None:
    """Check that an answer is a problem with one of these statuses."""
    problem = answer.problem()
    assert answer.status in statuses, problem
    assert problem["status"] == answer.status
    assert problem["code"] and problem["detail"]
    assert not [part for part in INSIDES if part in answer.body]


@pytest.mark.parametrize(
    "encoding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "gzip, gzip", "é"]
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_compressed_body_is_not_decompressed(api: Api, method: str, encoding: str) -> None:
    bomb = gzip.compress(b'{"title": "' + b"x" * 10_000_000 + b'"}')
    path = "/v1/conversations" if method == "POST" else f"/v1/conversations/{api.conversation()['id']}"
    headers = {b"Content-Type": b"application/json", b"Content-Encoding": encoding.encode()}
    response = api.http.request(method, path, content=bomb, headers=headers)
    check_problem(response, 415, "UNSUPPORTED_ENCODING")
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_a_body_that_says_it_is_not_compressed_is_accepted(api: Api, encoding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    assert api.http.post("/v1/conversations", content=b"{}", headers=headers).status_code == 201


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    "place", ["%s", '{"metadata": %s}', '{"title": %s}', '{"messages": [{"role": "user", "content": %s}]}']
)
def test_json_of_ten_thousand_levels_is_refused(api: Api, place: str, left: str, right: str) -> None:
    deep = left * 10_000 + "1" + right * 10_000
    response = api.http.post("/v1/conversations", content=place % deep, headers={"Content-Type": "application/json"})
    check_problem(response, 422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "field",
    [
        b"X-A: a\rSet-Cookie: b\r\n",
        b"X-A: a\nHost: evil.example\r\n",
        b"X-A: a\r\n Host: evil.example\r\n",
        b"X-A: a\r\n\tb\r\n",
        b"X-A: a\0b\r\n",
        b"X-A\0: b\r\n",
        b"X A: b\r\n",
        b"X-A : b\r\n",
        b": b\r\n",
        b"X-A\r\n",
        b"\xffX: b\r\n",
        b" X-A: b\r\n",
        b"X(A): b\r\n",
        b"X-A: \x01\r\n",
        b"X-A: \x7f\r\n",
    ],
)
@pytest.mark.parametrize("path", [b"/healthz", b"/v1/conversations"])
def test_an_injected_header_reaches_no_route(raw: RawConnection, path: bytes, field: bytes) -> None:
    raw.send(b"GET " + path + b" HTTP/1.1\r\n" + HOST + field + b"\r\n")
    check_clear(raw.answer(), 400)
    assert raw.rest() == b""


@pytest.mark.parametrize(
    "name", [b"X-Request-Id", b"Idempotency-Key", b"Turnlog-Position", b"If-Match", b"Last-Event-ID"]
)
def test_no_header_of_a_request_gets_into_the_headers_of_the_answer(raw: RawConnection, name: bytes) -> None:
    raw.send(POST + name + b": canary%0d%0aX-Injected: 1\r\nContent-Length: 2\r\n\r\n{}")
    answer = raw.answer()
    assert answer.status in {201, 422}
    assert not any("canary" in value or "injected" in header for header, value in answer.headers.items())


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n", b"{}"),
        (b"Transfer-Encoding: chunked, identity\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: xchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: \r\nContent-Length: 2\r\n", b"{}"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding\t: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: \x0bchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{} "),
        (b"Content-Length: 2, 2\r\n", b"{}"),
        (b"Content-Length: +2\r\n", b"{}"),
        (b"Content-Length: 0x2\r\n", b"{}"),
        (b"Content-Length: 2 2\r\n", b"{}"),
        (b"Content-Length: -2\r\n", b"{}"),
        (b"Content-Length:\r\n", b"{}"),
        (b"Content-Length: 18446744073709551618\r\n", b"{}"),
        (b"Content-Length: \xb2\r\n", b"{}"),
    ],
)
def test_a_body_of_two_lengths_is_refused_with_all_that_follows(raw: RawConnection, fields: bytes, body: bytes) -> None:
    raw.send(POST + fields + b"\r\n" + body + GET + GET)
    check_clear(raw.answer(), 400)
    assert raw.rest() == b""


@pytest.mark.parametrize("chunk", [b"0x2", b"+2", b"-2", b" 2", b"2 ", b"", b"FFFFFFFFFFFFFFFFF", b"2\n", b"2;\n"])
def test_a_malformed_chunk_is_refused_with_all_that_follows(raw: RawConnection, chunk: bytes) -> None:
    raw.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n{}\r\n0\r\n\r\n" + GET)
    check_clear(raw.answer(), 400)
    assert raw.rest() == b""


def test_a_body_in_a_coding_that_is_not_decoded_is_no_json(raw: RawConnection) -> None:
    data = gzip.compress(b"{}")
    raw.send(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
    check_clear(raw.answer(), 400, 415, 422)


@pytest.mark.parametrize(
    "method", [b"get", b"Get", b"pOST", b"post", b"delete", b"GET\0", b"G\xc9T", b"GET;", b"A" * 5000, b""]
)
def test_a_method_of_another_form_is_refused(raw: RawConnection, method: bytes) -> None:
    raw.send(method + b" /v1/conversations HTTP/1.1\r\n" + HOST + b"\r\n")
    check_clear(raw.answer(), 400)


@pytest.mark.parametrize("name", [b"X-HTTP-Method-Override", b"X-Method-Override", b"X-HTTP-Method"])
def test_a_header_does_not_change_the_method(raw: RawConnection, name: bytes) -> None:
    raw.send(b"GET /healthz HTTP/1.1\r\n" + HOST + name + b": DELETE\r\n\r\n")
    assert raw.answer().status == 200


@pytest.mark.parametrize(
    "target",
    [
        "//v1/conversations",
        "/v1//conversations",
        "/v1/conversations/",
        "/v1/conversations//",
        "/v1/./conversations",
        "/v1/../v1/conversations",
        "/v1/%2e%2e/v1/conversations",
        "/v1%2fconversations",
        "/v1/conversations%2f",
        "/v1/conversations;x=1",
        "/v1/conversations%3Fq=1",
        "/v1/conversations%00",
        "/v1/conversations%0a",
        "/v1/conversations%20",
        "/V1/conversations",
        "/v1\\conversations",
        "/v1/conversations.json",
        "/%76%31%2fconversations",
        "/docs/../../etc/passwd",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f..%2fetc/passwd",
        "/static-offline-docs/%2e%2e/%2e%2e/app.py",
        "/static-offline-docs/..%2f..%2fapp.py",
        "/%c0%ae%c0%ae/etc/passwd",
        "/v1/conversations/%ff%fe/messages/x/y",
    ],
)
def test_another_spelling_of_a_path_is_not_found(raw: RawConnection, target: str) -> None:
    raw.send(f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
    check_clear(raw.answer(), 404)


def spellings(id_: str) -> list[str]:
    """Return texts that are no id, but that a tolerant reader would take for it."""
    arabic_indic = {ord("0") + digit: 0x0660 + digit for digit in range(10)}
    full_width = {ord(char): ord(char) + 0xFEE0 for char in "0123456789abcdef-"}
    return [
        id_.translate(arabic_indic),
        id_.translate(full_width),
        id_.replace("-", ""),
        id_.replace("-", "\N{HYPHEN}"),
        f"{{{id_}}}",
        f"urn:uuid:{id_}",
        f" {id_}",
        f"{id_} ",
        f"{id_}\n",
        f"{id_}\0",
        f"{id_};x",
        f"{id_}/",
        f"{id_}.",
        f"+{id_[1:]}",
        f"0x{id_[2:]}",
        f"{id_}{id_}",
        id_ * 100,
        f"../conversations/{id_}",
    ]


def test_an_id_has_one_spelling_but_for_its_case(api: Api) -> None:
    id_ = api.conversation()["id"]
    message = api.message(id_)["id"]
    for other in spellings(id_):
        encoded = "".join(f"%{byte:02x}" for byte in other.encode())
        for path in ("", "/messages", "/log", "/events", f"/messages/{message}"):
            response = api.http.get(f"/v1/conversations/{encoded}{path}")
            assert response.status_code == 404, (other, path)
            assert response.json()["code"] in {"CONVERSATION_NOT_FOUND", "NOT_FOUND"}
            assert len(response.content) < 500
    for other in spellings(message):
        encoded = "".join(f"%{byte:02x}" for byte in other.encode())
        assert api.http.get(f"/v1/conversations/{id_}/messages/{encoded}").status_code == 404, other
    assert api.http.get(f"/v1/conversations/{id_.upper()}").json()["id"] == id_


def test_a_long_id_is_not_found_and_not_repeated(api: Api) -> None:
    response = api.http.get(f"/v1/conversations/{'a' * 10_000}/messages/{'b' * 5000}")
    check_problem(response, 404, "CONVERSATION_NOT_FOUND")
    assert len(response.content) < 500


def test_many_pipelined_requests_do_not_keep_others_waiting(api: Api) -> None:
    url = str(api.http.base_url)
    with ExitStack() as stack:
        raws = [stack.enter_context(RawConnection(url)) for _ in range(5)]
        for raw in raws:
            raw.send(GET * 500)
        with RawConnection(url) as other:
            other.send(GET)
            assert other.answer().status == 200
        for raw in raws:
            assert [json.loads(raw.answer().body) for _ in range(500)] == [{"status": "ok"}] * 500
