"""A connection is closed if no complete request arrives in time."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from api.http import sse
from api.http.bodies import MAX_HELD_BYTES
from cli import server
from cli.connections import Limits
from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api
from tests.support.models.model_scripts import Hang
from tests.support.servers.raw_http import RawConnection
from tests.support.waiting import eventually

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = POST + b"Content-Length: 1000\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HALVES = {
    "a letter": b"G",
    "a line": b"GET /healthz HTTP/1.1\r\n",
    "headers": b"GET /healthz HTTP/1.1\r\nHost: localh",
    "headers and no end": GET[:-2],
    "HTTP/0.9": b"GET /healthz\r\n",
    "no body": BODY,
    "half a body": BODY + b'{"title": "',
    "a large half of a body": POST + b"Content-Length: 9000000\r\n\r\n" + b'{"title": "' + b"x" * 4_000_000,
    "half a chunk": CHUNKED + b"ff\r\n{",
    "no last chunk": CHUNKED + b"2\r\n{}\r\n",
    "no end of the fields after chunks": CHUNKED + b"2\r\n{}\r\n0\r\nX-A: b\r\n",
}
ANSWERED = {
    "a body that is too large": (POST + b"Content-Length: 99999999\r\n\r\n{", 413),
    "a path that is not there": (BODY.replace(b"conversations", b"nowhere"), 404),
    "a page of another site": (BODY.replace(b"Content-Type", b"Origin: null\r\nContent-Type"), 403),
    "a GET with a body": (GET[:-2] + b"Content-Length: 5\r\n\r\nb", 200),
}

REQUEST_S = 1.5  # the server answers a complete request sooner, also on a busy machine
IDLE_S = 1.0

Limited = Callable[..., AbstractContextManager[Api]]


@pytest.fixture(scope="module")
def url(shared_database_url: str, serve: Serve) -> Iterator[str]:
    """A server that waits briefly for a request, and gives stalled clients no answer."""
    with serve(shared_database_url, limits=Limits(request_s=REQUEST_S, idle_s=IDLE_S, stalled_s=0)) as api:
        yield str(api.http.base_url)


@pytest.fixture(scope="module")
def answering_url(shared_database_url: str, serve: Serve) -> Iterator[str]:
    """A server that regards every client as still sending."""
    with serve(shared_database_url, limits=Limits(request_s=REQUEST_S, idle_s=60, stalled_s=60)) as api:
        yield str(api.http.base_url)


@pytest.fixture(scope="module")
def patient_url(shared_database_url: str, serve: Serve) -> Iterator[str]:
    """A server that waits for a request much longer than it keeps an idle connection."""
    with serve(shared_database_url, limits=Limits(request_s=60, idle_s=0.2, stalled_s=0)) as api:
        yield str(api.http.base_url)


def count(url: str) -> int:
    """Return the number of events in the log."""
    with RawConnection(url) as raw:
        raw.send(GET.replace(b"healthz", b"readyz"))
        return int(raw.answer().body.split(b'"position":')[1].split(b",")[0])


def sent(url: str, request: bytes) -> RawConnection:
    """Return a connection on which this request was sent."""
    raw = RawConnection(url)
    raw.send(request)
    return raw


@pytest.mark.parametrize("before", [b"", GET])
def test_connections_of_stalled_clients_are_closed(url: str, before: bytes) -> None:
    recorded = count(url)
    with ExitStack() as stack:
        raws: dict[str, RawConnection] = {}
        for half, request in HALVES.items():
            raws[half] = stack.enter_context(RawConnection(url))
            if before:
                raws[half].send(before)
                assert raws[half].answer().status == 200
            raws[half].send(request)
        assert {half: raw.rest() for half, raw in raws.items()} == dict.fromkeys(HALVES, b"")
    assert count(url) == recorded


def test_clients_that_still_send_get_a_timeout_problem(answering_url: str) -> None:
    with ExitStack() as stack:
        raws = {half: stack.enter_context(sent(answering_url, request)) for half, request in HALVES.items()}
        for half, raw in raws.items():
            answer = raw.answer()
            assert (answer.status, answer.problem()["code"]) == (408, "REQUEST_TIMEOUT"), half
            assert answer.headers["connection"] == "close", half
            assert raw.rest() == b"", half


@pytest.mark.parametrize("silent", [True, False])
def test_a_request_that_was_answered_early_gets_no_second_answer(url: str, answering_url: str, silent: bool) -> None:
    with ExitStack() as stack:
        raws: dict[str, RawConnection] = {}
        for which, (request, status) in ANSWERED.items():
            raws[which] = stack.enter_context(sent(url if silent else answering_url, request))
            assert raws[which].answer().status == status, which
        assert {which: raw.rest() for which, raw in raws.items()} == dict.fromkeys(ANSWERED, b"")


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET, GET + b"\r\n", GET + GET])
def test_an_idle_connection_is_closed(url: str, sent: bytes) -> None:
    with RawConnection(url) as raw:
        if sent:
            raw.send(sent)
        for _ in range(sent.count(GET)):
            assert raw.answer().status == 200
        assert raw.rest() == b""


def test_blank_lines_do_not_keep_a_connection_open(url: str) -> None:
    with RawConnection(url) as raw:

        def closed() -> bool:
            try:
                raw.send(b"\r\n")
            except ConnectionError:
                return True
            return False

        eventually(closed)


def test_single_bytes_do_not_extend_the_time_for_a_request(url: str) -> None:
    """Send one byte at a time, so that each comes before the time is up."""
    with RawConnection(url) as raw:
        trickle = iter(b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 100_000)

        def closed() -> bool:
            time.sleep(0.01)  # at full speed the headers would get too long
            try:
                raw.send(bytes([next(trickle)]))
            except ConnectionError:
                return True
            return False

        eventually(closed)


def test_a_slow_request_is_answered_if_it_is_complete_in_time(patient_url: str) -> None:
    body = b'{"title": "' + b"x" * 100 + b'", "metadata": {"a": "' + b"y" * 60_000 + b'"}}'
    request = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with RawConnection(patient_url) as raw:
        for start in range(0, len(request), len(request) // 4):
            raw.send(request[start : start + len(request) // 4])
            with RawConnection(patient_url) as idle:
                assert idle.rest() == b""  # so more time has passed than an idle connection is kept
        assert raw.answer().status == 201


def test_a_stream_has_no_time_limit(
    url: str, api: Api, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_S", 0.2)
    with RawConnection(url) as raw:
        raw.send(GET.replace(b"healthz", b"v1/events"))
        assert raw.head().status == 200
        with RawConnection(url) as half, RawConnection(url) as idle:
            half.send(BODY)
            assert half.rest() == idle.rest() == b""  # so both time limits have passed
            comments = 0
            while comments < 3:
                comments += raw.line() == b": still here\n"


def test_an_incomplete_request_behind_a_stream_waits_for_the_end_of_the_stream(
    url: str, api: Api, given_model: GivenModel
) -> None:
    id_, model = api.conversation()["id"], given_model(["Hel", Hang()])
    body = b'{"content": "Hi", "stream": true, "model": "%s"}' % model.encode()
    path = b"/v1/conversations/%s/turns" % id_.encode()
    with RawConnection(url) as raw:
        raw.send(POST.replace(b"/v1/conversations", path) + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert raw.head().status == 200
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: localh")
        with RawConnection(url) as other:
            other.send(b"GET /healthz HTTP/1.1\r\nHost: localh")
            assert other.rest() == b""  # so the time limit of an incomplete request has passed
        turn_id = api.get(f"/v1/conversations/{id_}")["active_turn_id"]
        assert api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel").status_code == 200
        rest = raw.rest()
        assert b"event: turn.cancelled" in rest
        assert rest.endswith(b"0\r\n\r\n")  # the last chunk of the stream, with no second answer behind it


def test_a_large_request_is_answered_while_others_send_incomplete_large_ones(api: Api) -> None:
    url, half = str(api.http.base_url), POST + b"Content-Length: 9000000\r\n\r\n" + b'{"title": "' + b"x" * 8_000_000
    with ExitStack() as stack:
        for _ in range(2 * MAX_HELD_BYTES // len(half)):
            stack.enter_context(RawConnection(url)).send(half)
        messages = [{"role": "user", "content": "x" * 1_000_000}] * 9
        assert api.conversation(messages=messages)["message_count"] == 9


def test_the_time_for_a_request_starts_with_its_first_byte(answering_url: str) -> None:
    with RawConnection(answering_url) as raw, RawConnection(answering_url) as other:
        raw.send(GET)
        assert raw.answer().status == 200
        other.send(BODY)
        assert other.answer().status == 408  # so the limit has passed since the first request, and since the connection
        raw.send(GET)
        assert raw.answer().status == 200


def test_incomplete_requests_are_closed_when_the_server_stops(
    shared_database_url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CLOSING_TIMEOUT_S", 1)
    with serve(shared_database_url) as api:
        connections = [RawConnection(str(api.http.base_url)) for _ in range(3)]
        for raw, half in zip(connections, [b"", b"GET", BODY], strict=True):
            raw.send(half)
    for raw in connections:
        with raw:
            raw.rest()
