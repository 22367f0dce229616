"""Limits that several processes keep together."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.support.http import plain_http
from tests.support.http.turn_streams import streamed
from tests.support.models.model_scripts import Hang, Script
from tests.support.models.model_server import ModelServer
from tests.support.rebuilding import url
from tests.support.servers.server_process import ServerProcess, together
from tests.support.store import rows, value
from tests.support.waiting import PATIENCE_S, eventually

LIMIT = 40
STARTS = 50
ALLOWED = 7
BY_THE_CLIENT = {"content": "Hi", "generate": False}
GIVEN_BACK_S = 15
"""The time after which turns and streams of a dead server no longer count."""


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


@pytest.mark.slow
def test_a_killed_server_gives_back_its_turns_and_streams(database_url: str) -> None:
    arguments = ("--database-url", url(database_url))
    limits = {"TURNLOG_LIMIT_RUNNING_TURNS": "1", "TURNLOG_LIMIT_OPEN_STREAMS": "2"}
    with ModelServer() as models, plain_http.Client() as client:
        models.script("scripted", Script(["one ", Hang()]))
        model = {"TURNLOG_MODEL": "scripted", "TURNLOG_MODEL_API_BASE": models.url}
        victim = ServerProcess(*arguments, settings={**limits, **model})
        other = ServerProcess(*arguments, settings=limits, model_library=False)

        def start() -> httpx.Response:
            return client.post(f"{other.url}/v1/turns", json=BY_THE_CLIENT)

        def open_two() -> list[int]:
            with ExitStack() as both:
                opening = [client.stream("GET", f"{other.url}/v1/events") for _ in range(2)]
                return [both.enter_context(each).status_code for each in opening]

        with together(victim, other), ExitStack() as streams:
            hanging = {"content": "Hi", "stream": True}
            frames = streams.enter_context(streamed("POST", f"{victim.url}/v1/turns", hanging))
            assert next(frames)["event"] == "turn.started"
            feed = streams.enter_context(client.stream("GET", f"{victim.url}/v1/events"))
            assert feed.status_code == 200
            assert (start().status_code, open_two()) == (429, [429, 429])
            victim.process.kill()
            victim.wait()
            in_time = "SELECT count(*), bool_and(expires_at < now() + make_interval(secs => %s)) FROM open_streams"
            assert rows(database_url, in_time, [GIVEN_BACK_S]) == [(2, True)]
            # Two streams and one turn, and no more, are free again.
            eventually(lambda: open_two() == [200, 200])
            eventually(lambda: start().status_code == 201)
            check_limited(start())
            with ExitStack() as both:
                for _ in range(2):
                    eventually(lambda: both.enter_context(client.stream("GET", f"{other.url}/v1/events")).is_success)
                check_limited(client.get(f"{other.url}/v1/events"))
    turns = "SELECT type FROM events WHERE type ~ '^Turn' ORDER BY position"
    assert [row[0] for row in rows(database_url, turns)] == ["TurnStarted", "TurnFailed", "TurnStarted"]


def test_a_killed_server_keeps_its_share_of_requests_for_the_minute_only(database_url: str) -> None:
    arguments = ("--database-url", url(database_url))
    limit = {"TURNLOG_LIMIT_REQUESTS_PER_MINUTE": str(LIMIT)}
    victim, other = (ServerProcess(*arguments, settings=limit, model_library=False) for _ in range(2))
    with together(victim, other), plain_http.Client() as client:

        def ask(server: ServerProcess) -> httpx.Response:
            return client.get(f"{server.url}/v1/conversations")

        def passed() -> int:
            return [ask(other).status_code for _ in range(2 * LIMIT)].count(200)

        assert ask(victim).status_code == 200
        victim.process.kill()
        victim.wait()
        held = value(database_url, "SELECT sum(granted) FROM request_allowances")
        assert 1 <= held < LIMIT / 2
        assert passed() == LIMIT - held
        assert check_limited(ask(other)) <= 60
        rows(database_url, "UPDATE request_allowances SET begins_at = begins_at - interval '61 seconds'")
        eventually(lambda: ask(other).status_code == 200)
        assert 1 + passed() == LIMIT


def check_limited(response: httpx.Response) -> int:
    """Check a refusal and return the seconds until the client may try again."""
    assert (response.status_code, response.json()["code"]) == (429, "RATE_LIMITED")
    retry_after_s = int(response.headers["retry-after"])
    assert retry_after_s >= 1
    return retry_after_s
