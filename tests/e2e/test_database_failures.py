"""Servers whose PostgreSQL ends sessions, freezes, or is restored from a copy."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from postgres.cluster import Cluster
from postgres.embedded import EmbeddedPostgres
from tests.support.http import plain_http
from tests.support.servers.own_postgres import copy_cluster, frozen_postgres
from tests.support.servers.server_process import ServerProcess
from tests.support.store import end_sessions
from tests.support.waiting import eventually

ANSWERED_WITHIN_S = 20.0
"""A server gives up after 6 s and is documented to answer within 10 s. The rest is for a busy machine."""
PATIENT = {"TURNLOG_SHUTDOWN_GRACE_S": "20"}


def serving(*arguments: str | Path, **options: Any) -> ServerProcess:
    """Return a server whose turns do not get as far as a model."""
    return ServerProcess(*arguments, model_library=False, **options)


def as_url(conninfo: str) -> str:
    """Return a conninfo as the URL that `--database-url` takes."""
    parts = conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(str(parts['host']), safe='')}&port=5432"


def message(client: httpx.Client, conversation_id: str, text: str = "Hi") -> httpx.Response:
    path = f"/v1/conversations/{conversation_id}/messages"
    return client.post(path, json={"role": "user", "content": text})


def conversation(client: httpx.Client) -> str:
    return client.post("/v1/conversations", json={}).raise_for_status().json()["id"]


def test_a_server_reconnects_after_its_sessions_ended_and_shuts_down_on_request(either_url: str) -> None:
    with serving("--database-url", as_url(either_url)) as server:
        with plain_http.Client(base_url=server.url) as client:
            id_ = conversation(client)
            for _ in range(2):
                assert end_sessions(either_url) > 3
                assert message(client, id_).status_code == 201
                assert client.get(f"/v1/conversations/{id_}").json()["message_count"] > 0
        server.terminate()
        assert server.wait() == 0


def test_requests_are_answered_in_time_while_postgresql_is_frozen_and_served_afterwards(data_dir: Path) -> None:
    """Check writes that wait on one conversation, in the writer, and for turn leases."""
    with serving("--data-dir", data_dir) as server, plain_http.Client(base_url=server.url) as client:
        ids = [conversation(client) for _ in range(6)]
        list(map(partial(message, client), ids))
        paths = [f"/v1/conversations/{id_}" for id_ in ids]
        said, asked = {"role": "user", "content": "Hi"}, {"content": "Hi"}
        requests = [
            *(("POST", f"{path}/messages", said) for path in (*paths[:2], *paths[:1] * 6)),
            *(("POST", f"{path}/turns", asked) for path in paths[2:]),
            *(("GET", path, None) for path in (f"{paths[0]}/messages", "/readyz")),
        ]

        def status(method: str, path: str, body: dict[str, str] | None) -> int:
            return plain_http.request(method, server.url + path, json=body, timeout=ANSWERED_WITHIN_S).status_code

        with frozen_postgres(data_dir), ThreadPoolExecutor(len(requests)) as threads:
            answers = [threads.submit(status, *request) for request in requests]
            assert status("GET", "/healthz", None) == 200
            assert {answer.result() for answer in answers} == {503}
            assert [status(*requests[0]), status(*requests[-2])] == [503, 503]
        eventually(lambda: message(client, ids[0]).status_code == 201)
        eventually(lambda: client.get("/readyz").status_code == 200)


def test_a_server_shuts_down_in_time_while_postgresql_is_frozen(data_dir: Path) -> None:
    """Check that the supervisor exits with 0.

    It kills a worker that is not done 5 s after the grace of running turns, and then exits with 1.
    """
    # No turn runs, so the grace is not used up. It gives a worker on a busy machine more than the usual 10 s.
    with (
        EmbeddedPostgres(data_dir) as embedded,
        serving("--database-url", as_url(embedded.conninfo), workers=2, settings=PATIENT) as server,
        plain_http.Client(base_url=server.url) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        id_ = conversation(client)
        with frozen_postgres(data_dir):
            asking = threads.submit(message, client, id_)
            server.terminate()
            assert server.wait() == 0
            assert asking.exception() or asking.result().status_code == 503


def test_a_server_continues_with_the_restored_log_after_a_restore(data_dir: Path) -> None:
    postgres, copy = data_dir / "postgres", data_dir / "copy"
    with serving("--data-dir", data_dir) as server, plain_http.Client(base_url=server.url) as client:
        id_ = conversation(client)
        assert message(client, id_, "kept").status_code == 201
        cluster = Cluster(postgres, data_dir / "postgres.log")
        cluster.stop()
        copy_cluster(postgres, copy)
        cluster.start()
        eventually(lambda: message(client, id_, "lost").status_code == 201)
        for _ in range(3):
            assert message(client, id_, "lost").status_code == 201
        lost = conversation(client)
        cluster.stop()
        shutil.rmtree(postgres)
        copy.rename(postgres)
        cluster.start()
        eventually(lambda: client.get("/readyz").status_code == 200)
        answer = message(client, id_, "new")
        assert (answer.status_code, answer.headers.get("Turnlog-Behind")) == (201, None)
        assert message(client, lost).status_code == 404
        assert texts(client, id_) == ["kept", "new"]
        with psycopg.connect(f"host={cluster.socket_directory()} user=postgres dbname=postgres") as connection:
            versions = connection.execute("SELECT version FROM turnlog.events ORDER BY position").fetchall()
        assert versions == [(1,), (2,), (3,)]


def texts(client: httpx.Client, conversation_id: str) -> list[Any]:
    page = client.get(f"/v1/conversations/{conversation_id}/messages").json()["data"]
    return [item["content"][0]["text"] for item in page]
