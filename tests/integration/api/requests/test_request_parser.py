"""Malformed HTTP gets a problem. Unusual but valid HTTP is answered."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import PROBLEM_KEYS
from tests.support.models.model_scripts import Hang
from tests.support.servers.raw_http import Answer, RawConnection

LIMIT = 16 * 1024
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def check_refused(answer: Answer, status: int, code: str) -> None:
    problem = answer.problem()
    assert problem.keys() == PROBLEM_KEYS
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["connection"] == "close"
    assert answer.headers["date"]


@pytest.fixture
def raw(api: Api) -> Iterator[RawConnection]:
    """A raw connection for this test."""
    with RawConnection(str(api.http.base_url)) as raw:
        yield raw


@pytest.mark.parametrize(
    "request_",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nName : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nName: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nName: a\r\n b\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: x\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999999\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\n\r\n{}",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", GET])
def test_a_request_that_the_parser_refuses_gets_a_problem(raw: RawConnection, before: bytes, request_: bytes) -> None:
    if before:
        raw.send(before)
        assert raw.answer().status == 200
    raw.send(request_)
    check_refused(raw.answer(), 400, "BAD_REQUEST")
    assert raw.rest() == b""


def test_a_body_that_breaks_in_the_middle_is_refused(raw: RawConnection) -> None:
    raw.send(CHUNKED)
    raw.send(b"1\r\n{\r\n")
    raw.send(b"x\r\n")
    check_refused(raw.answer(), 400, "BAD_REQUEST")
    assert raw.rest() == b""


def test_a_target_that_is_not_a_path_is_not_found(raw: RawConnection) -> None:
    raw.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert raw.answer().problem()["code"] == "NOT_FOUND"


def test_an_unknown_method_gets_a_problem_with_the_allowed_methods(raw: RawConnection) -> None:
    for method in (b"TRACE", b"PROPFIND", b"OPTIONS", b"PUT", b"M-SEARCH"):
        raw.send(method + b" /v1/conversations HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = raw.answer()
        assert (answer.status, answer.problem()["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "DELETE, GET, HEAD, POST"


def sized(size: int) -> bytes:
    """Return a request whose path and headers have `size` bytes together."""
    fields = [(b"Host", b"localhost"), (b"X-A", b"a" * 1000), (b"X-B", b"")]
    left = size - len(b"/healthz") - sum(len(name) + len(value) + 4 for name, value in fields)
    fields[-1] = (b"X-B", b"b" * left)
    return b"GET /healthz HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n"


@pytest.mark.parametrize("piece", [LIMIT * 2, 1000, 100])
def test_headers_have_a_size_limit(api: Api, piece: int) -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 431)):
        request = sized(size)
        with RawConnection(str(api.http.base_url)) as raw:
            for start in range(0, len(request), piece):
                raw.send(request[start : start + piece])
            answer = raw.answer()
            assert answer.status == status
            if status == 431:
                check_refused(answer, 431, "HEADERS_TOO_LARGE")
                assert raw.rest() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * LIMIT,
        b"GET /?q=" + b"x" * LIMIT + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"x" * (LIMIT * 3),
        b"GET / HTTP/1.1\r\n" + b"x" * (LIMIT * 3),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 5000,
        GET + b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 5000 + b"\r\n" + GET,
        CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 5000,
        CHUNKED + b"2\r\n{}\r\n0\r\na: " + b"x" * (LIMIT * 3),
        CHUNKED + b"2;" + b"x" * (LIMIT * 3),
    ],
)
def test_endless_headers_are_refused_before_they_end(raw: RawConnection, request_: bytes) -> None:
    # Send it in pieces too, as a single piece may be measured as a whole.
    for start in range(0, len(request_), 4000):
        try:
            raw.send(request_[start : start + 4000])
        except ConnectionError:
            break
    answer = raw.answer()
    if answer.status == 200:  # the answer to the request before
        assert request_.startswith(GET)
        answer = raw.answer()
    check_refused(answer, 431, "HEADERS_TOO_LARGE")


def test_a_client_that_is_still_sending_can_read_the_refusal(api: Api) -> None:
    for _ in range(20):
        with RawConnection(str(api.http.base_url)) as raw:
            raw.send(b"hello\r\n\r\n" + b"x" * 1_000_000)
            check_refused(raw.answer(), 400, "BAD_REQUEST")


def test_trailers_of_a_chunked_body_are_not_headers(raw: RawConnection) -> None:
    trailers = b"Host: evil.example\r\nSec-Fetch-Site: cross-site\r\nIdempotency-Key: \r\nX-Request-Id: x\r\n"
    for _ in range(2):
        raw.send(CHUNKED + b"2;ext=1\r\n{}\r\n0\r\n" + trailers + b"\r\n")
        answer = raw.answer()
        assert answer.status == 201
    raw.send(CHUNKED)
    raw.send(b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n")
    assert raw.answer().status == 201


def test_a_client_that_expects_a_100_continue_gets_it(raw: RawConnection) -> None:
    raw.send(POST + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n")
    assert (raw.line(), raw.line()) == (b"HTTP/1.1 100 Continue\r\n", b"\r\n")
    raw.send(b'{"title": "T"}')
    answer = raw.answer()
    assert (answer.status, json.loads(answer.body)["title"]) == (201, "T")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (POST + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", 413),
        (POST.replace(b"conversations", b"nowhere") + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", 404),
        (POST.replace(b"localhost", b"evil.example") + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", 403),
    ],
)
def test_a_refused_request_gets_no_100_continue(raw: RawConnection, request_: bytes, status: int) -> None:
    raw.send(request_)
    assert raw.answer().status == status


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n" + GET,
        b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz? HTTP/1.1\r\nhOST:localhost\r\n\r\n",
        b"GET /%68ealthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
        b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
    ],
)
def test_an_unusual_but_valid_request_is_answered(raw: RawConnection, request_: bytes) -> None:
    raw.send(request_)
    answer = raw.answer()
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
    if answer.headers.get("connection") != "close":
        raw.send(GET)
        assert raw.answer().status == 200


def test_pipelined_requests_are_answered_in_order(raw: RawConnection) -> None:
    raw.send(POST + b"Content-Length: 2\r\n\r\n{}" + GET + POST + b"Content-Length: 1\r\n\r\nx" + GET)
    assert [raw.answer().status for _ in range(4)] == [201, 200, 422, 200]


def test_a_malformed_request_behind_a_stream_is_answered_after_it(api: Api, given_model: GivenModel) -> None:
    id_, model = api.conversation()["id"], given_model(["Hel", Hang()])
    body = b'{"content": "Hi", "stream": true, "model": "%s"}' % model.encode()
    path = b"/v1/conversations/%s/turns" % id_.encode()
    with RawConnection(str(api.http.base_url)) as raw:
        raw.send(POST.replace(b"/v1/conversations", path) + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert raw.head().status == 200
        while raw.line() != b"event: turn.started\n":
            pass
        raw.send(b"hello\r\n\r\n")
        turn_id = api.get(f"/v1/conversations/{id_}")["active_turn_id"]
        assert api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel").status_code == 200
        while raw.line() != b"0\r\n":  # the last chunk of the stream
            pass
        assert raw.line() == b"\r\n"
        check_refused(raw.answer(), 400, "BAD_REQUEST")
        assert raw.rest() == b""


def test_a_malformed_body_behind_an_early_answer_closes_the_connection(raw: RawConnection) -> None:
    raw.send(CHUNKED.replace(b"conversations", b"nowhere"))
    assert raw.answer().status == 404
    raw.send(b"no chunk\r\n")
    assert raw.rest() == b""


def test_bytes_after_a_request_to_close_are_ignored(raw: RawConnection) -> None:
    raw.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"hello" * 10_000)
    assert raw.answer().status == 200


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
@pytest.mark.parametrize("path", [b"/healthz", b"/v1/conversations", b"/nowhere"])
def test_a_request_without_exactly_one_host_is_refused(raw: RawConnection, path: bytes, hosts: bytes) -> None:
    raw.send(b"GET " + path + b" HTTP/1.1\r\n" + hosts + b"\r\n")
    answer = raw.answer()
    assert (answer.status, answer.problem()["code"]) == (400, "BAD_REQUEST")
