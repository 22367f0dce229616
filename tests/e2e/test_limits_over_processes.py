"""Limits of a server with several processes."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.support.servers.server_process import ServerProcess
from tests.support.waiting import PATIENCE_S

LIMIT = 40


def test_the_workers_of_a_server_together_keep_to_the_limit() -> None:
    limit = {"TURNLOG_LIMIT_REQUESTS_PER_MINUTE": str(LIMIT)}
    with ServerProcess("--ephemeral", workers=2, settings=limit, model_library=False) as server:

        def ask(_: int) -> httpx.Response:
            # Each request has a connection of its own, which any worker accepts.
            return httpx.get(f"{server.url}/v1/conversations", timeout=PATIENCE_S)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask, range(4 * LIMIT)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert LIMIT / 2 < statuses.count(200) <= LIMIT
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in answers if answer.status_code == 429)
