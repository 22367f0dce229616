"""Limits that several processes keep together."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.support.http import plain_http
from tests.support.rebuilding import url
from tests.support.servers.server_process import ServerProcess, together
from tests.support.store import value
from tests.support.waiting import PATIENCE_S

LIMIT = 40
STARTS = 50
ALLOWED = 7
BY_THE_CLIENT = {"content": "Hi", "generate": False}


def test_the_workers_of_a_server_together_keep_to_the_limit(database_url: str) -> None:
    limit = {"TURNLOG_LIMIT_REQUESTS_PER_MINUTE": str(LIMIT)}
    arguments = ("--database-url", url(database_url))
    with ServerProcess(*arguments, workers=2, settings=limit, model_library=False) as server:

        def ask(_: int) -> httpx.Response:
            # Each request has a connection of its own, which any worker accepts.
            return plain_http.get(f"{server.url}/v1/conversations")

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask, range(4 * LIMIT)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert LIMIT / 2 < statuses.count(200) <= LIMIT
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in answers if answer.status_code == 429)


@pytest.fixture(scope="module")
def servers(shared_database_url: str) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers on one log."""
    arguments = ("--database-url", url(shared_database_url))
    one, other = (ServerProcess(*arguments, model_library=False) for _ in range(2))
    with together(one, other):
        yield one, other


@pytest.mark.parametrize(("path", "body"), [("/v1/conversations", {}), ("/v1/turns", BY_THE_CLIENT)])
def test_an_agent_allows_exactly_so_many_conversations_to_starts_at_once_on_two_servers(
    servers: tuple[ServerProcess, ServerProcess], shared_database_url: str, path: str, body: dict[str, Any]
) -> None:
    one, other = servers
    of_agent = {"agent_id": path.rpartition("/")[2]}
    limited = plain_http.put(f"{one.url}/v1/agents/{of_agent['agent_id']}", json={"max_conversations": ALLOWED})
    assert limited.status_code == 201
    at_once = Barrier(STARTS)

    def start(number: int) -> httpx.Response:
        with plain_http.Client() as client:
            server = servers[number % 2]
            at_once.wait(PATIENCE_S)
            return client.post(f"{server.url}{path}", json={**of_agent, **body})

    with ThreadPoolExecutor(STARTS) as threads:
        answers = list(threads.map(start, range(STARTS)))
    codes = Counter((answer.status_code, answer.json().get("code")) for answer in answers)
    assert codes == {(201, None): ALLOWED, (409, "CONVERSATION_LIMIT_REACHED"): STARTS - ALLOWED}
    listed = plain_http.get(f"{other.url}/v1/conversations", params={"limit": 100, **of_agent}).json()["data"]
    assert len(listed) == ALLOWED
    deleted = plain_http.delete(f"{other.url}/v1/conversations/{listed[0]['id']}")
    assert deleted.status_code == 204
    again = [plain_http.post(f"{one.url}{path}", json={**of_agent, **body}).status_code for _ in range(2)]
    assert again == [201, 409]
    recorded = "SELECT count(*) FROM events WHERE type = 'ConversationStarted' AND data ->> 'agent_id' = %s"
    assert value(shared_database_url, recorded, [of_agent["agent_id"]]) == ALLOWED + 1
