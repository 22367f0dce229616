"""The deletion of an owner's whole history, beside other requests and over a kill."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.http import plain_http
from tests.support.servers.server_process import ServerProcess
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

CONVERSATIONS = 400


def serve(data_dir: Path) -> ServerProcess:
    return ServerProcess("--data-dir", data_dir, model_library=False)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with plain_http.Client() as client:
        yield client


def start(client: httpx.Client, url: str, agent: str) -> str:
    body = {"agent_id": agent, "messages": [{"role": "user", "content": "Hi"}]}
    return client.post(f"{url}/v1/conversations", json=body).raise_for_status().json()["id"]


def start_many(client: httpx.Client, url: str) -> list[str]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: start(client, url, "many"), range(CONVERSATIONS)))


def listed(client: httpx.Client, url: str) -> list[str]:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        parameters = {"agent_id": "many", "limit": 100, **cursor}
        page = client.get(f"{url}/v1/conversations", params=parameters).raise_for_status().json()
        found += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def delete_many(client: httpx.Client, url: str) -> httpx.Response:
    return client.delete(f"{url}/v1/conversations", params={"agent_id": "many"})


def test_a_killed_deletion_is_finished_by_the_next(data_dir: Path, client: httpx.Client) -> None:
    with serve(data_dir) as server, ThreadPoolExecutor(1) as thread:
        ids = start_many(client, server.url)
        answer = thread.submit(delete_many, client, server.url)
        eventually(lambda: len(listed(client, server.url)) < CONVERSATIONS)
        server.process.kill()
        assert isinstance(answer.exception(), httpx.TransportError)
    with serve(data_dir) as server:
        # The killed server may have recorded more than its read models show.
        head = client.get(f"{server.url}/readyz").json()["position"]
        client.get(f"{server.url}/v1/conversations", headers={"Turnlog-Position": str(head)}).raise_for_status()
        left = listed(client, server.url)
        assert 0 < len(left) < CONVERSATIONS
        assert delete_many(client, server.url).json() == {"deleted": len(left)}
        assert listed(client, server.url) == []
        assert delete_many(client, server.url).json() == {"deleted": 0}
        for id_ in ids:
            log = client.get(f"{server.url}/v1/conversations/{id_}/log").json()["data"]
            assert [event["type"] for event in log] == ["ConversationStarted", "MessageAdded", "ConversationDeleted"]


def test_others_are_served_and_new_conversations_stay_while_many_are_deleted(
    data_dir: Path, client: httpx.Client
) -> None:
    with serve(data_dir) as server, ThreadPoolExecutor(1) as thread:
        url = server.url
        start_many(client, url)
        other = start(client, url, "other")
        answer = thread.submit(delete_many, client, url)
        eventually(lambda: len(listed(client, url)) < CONVERSATIONS)
        new = start(client, url, "many")
        body = {"role": "user", "content": "Hi"}
        client.post(f"{url}/v1/conversations/{other}/messages", json=body).raise_for_status()
        assert not answer.done()
        assert answer.result().json() == {"deleted": CONVERSATIONS}
        assert listed(client, url) == [new]


def test_a_deletion_of_a_server_that_stops_is_refused_and_finished_later(data_dir: Path, client: httpx.Client) -> None:
    with serve(data_dir) as server, ThreadPoolExecutor(1) as thread:
        start_many(client, server.url)
        answer = thread.submit(delete_many, client, server.url)
        eventually(lambda: len(listed(client, server.url)) < CONVERSATIONS)
        server.terminate()
        refused = answer.result()
        assert (refused.status_code, refused.json()["code"]) == (503, "STORE_UNAVAILABLE")
        assert server.wait() == 0
    with serve(data_dir) as server:
        left = listed(client, server.url)
        assert delete_many(client, server.url).json() == {"deleted": len(left)}
        assert listed(client, server.url) == []
