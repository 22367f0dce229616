"""The memory of a server whose clients send incomplete bodies."""

from contextlib import ExitStack

from tests.support.http import plain_http
from tests.support.rebuilding import url
from tests.support.servers.raw_http import RawConnection
from tests.support.servers.server_process import ServerProcess
from tests.support.waiting import eventually

MIB = 1024 * 1024
HALVES = 32
REQUEST = b"POST /v1/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 9 * MIB


def test_incomplete_bodies_use_limited_memory_and_release_it(database_url: str) -> None:
    # The model library would use memory of its own while it loads.
    with ServerProcess("--database-url", url(database_url), model_library=False) as server:
        assert plain_http.post(f"{server.url}/v1/conversations", json={}).status_code == 201
        before = server.resident_bytes()
        for _ in range(2):
            with ExitStack() as stack:
                for _ in range(HALVES):
                    stack.enter_context(RawConnection(server.url)).send(REQUEST)
                assert plain_http.get(f"{server.url}/healthz").status_code == 200
                assert server.resident_bytes() - before < 250 * MIB
            eventually(lambda: server.resident_bytes() - before < 80 * MIB)
