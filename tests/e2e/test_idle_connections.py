"""Thousands of idle connections cost a server little."""

from contextlib import ExitStack

from tests.support.http import plain_http
from tests.support.rebuilding import url
from tests.support.servers.raw_http import RawConnection
from tests.support.servers.server_process import ServerProcess
from tests.support.waiting import eventually

IDLE = 2000
KIB = 1024
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = b"GET /healthz HTTP/1.1\r\nHost: loc"


def test_two_thousand_idle_connections_leave_room_for_a_new_client(database_url: str) -> None:
    # The model library would use memory of its own while it loads.
    with ServerProcess("--database-url", url(database_url), model_library=False) as server:
        assert plain_http.get(f"{server.url}/healthz").status_code == 200
        before = server.resident_bytes()
        with ExitStack() as stack:
            raws = [stack.enter_context(RawConnection(server.url)) for _ in range(IDLE)]
            for index, raw in enumerate(raws):
                # A third has sent nothing, a third a request, and a third a part of one.
                raw.send((b"", GET, HALF)[index % 3])
            for raw in raws[1::3]:
                assert raw.answer().status == 200
            assert plain_http.post(f"{server.url}/v1/conversations", json={"title": "T"}).status_code == 201
            assert (server.resident_bytes() - before) / IDLE < 50 * KIB
            for raw in raws[2::3]:
                raw.send(GET[len(HALF) :])
            assert raws[2].answer().status == 200
        eventually(lambda: plain_http.get(f"{server.url}/healthz").status_code == 200)
