"""Servers whose PostgreSQL ends their sessions, freezes, or is an earlier one all of a sudden."""

import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from postgres.cluster import Cluster
from postgres.embedded import EmbeddedPostgres
from tests.support.server_process import ServerProcess
from tests.support.store import rows
from tests.support.waiting import eventually

ANSWERED_WITHIN_S = 20.0
"""A server promises 10 s. The rest is for a busy machine."""
SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'turnlog'"


def as_url(conninfo: str) -> str:
    """Return a conninfo as the URL that `--database-url` takes."""
    parts = conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(str(parts['host']), safe='')}&port=5432"


def message(client: httpx.Client, conversation_id: str, text: str = "Hi") -> httpx.Response:
    path = f"/v1/conversations/{conversation_id}/messages"
    return client.post(path, json={"role": "user", "content": text})


def conversation(client: httpx.Client) -> str:
    return client.post("/v1/conversations", json={}).raise_for_status().json()["id"]


def test_a_server_goes_on_after_its_sessions_were_ended_and_ends_when_it_is_asked_to(either_url: str) -> None:
    with ServerProcess("--database-url", as_url(either_url)) as server:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            id_ = conversation(client)
            for _ in range(2):
                ended = rows(either_url, f"SELECT pg_terminate_backend(pid, 5000) {SESSIONS}")  # pyright: ignore[reportArgumentType]
                assert len(ended) > 3
                assert message(client, id_).status_code == 201
                assert client.get(f"/v1/conversations/{id_}").json()["message_count"] > 0
        server.terminate()
        assert server.wait() == 0


def test_requests_are_answered_in_time_while_postgresql_is_frozen_and_served_afterwards(tmp_path: Path) -> None:
    with ServerProcess("--data-dir", tmp_path) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        id_ = conversation(client)
        with frozen_postgresql(tmp_path), httpx.Client(base_url=server.url, timeout=ANSWERED_WITHIN_S) as hasty:
            assert message(hasty, id_).status_code == 503
            assert hasty.get(f"/v1/conversations/{id_}/messages").status_code == 503
            assert hasty.get("/readyz").status_code == 503
            assert hasty.get("/healthz").status_code == 200
        eventually(lambda: message(client, id_).status_code == 201)
        eventually(lambda: client.get("/readyz").status_code == 200)


def test_requests_at_once_are_answered_in_time_while_postgresql_is_frozen(tmp_path: Path) -> None:
    """Writes queue behind each other: on one conversation, in the writer, and for the leases of turns."""
    with ServerProcess("--data-dir", tmp_path) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        ids = [conversation(client) for _ in range(6)]
        list(map(partial(message, client), ids))
        messages = [f"/v1/conversations/{id_}/messages" for id_ in (*ids[:2], *ids[:1] * 6)]
        turns = [f"/v1/conversations/{id_}/turns" for id_ in ids[2:]]
        body = {"role": "user", "content": "Hi"}, {"content": "Hi"}
        asked = [*((path, body[0]) for path in messages), *((path, body[1]) for path in turns)]
        with frozen_postgresql(tmp_path), ThreadPoolExecutor(len(asked)) as threads:

            def post(path: str, content: dict[str, str]) -> int:
                return httpx.post(server.url + path, json=content, timeout=ANSWERED_WITHIN_S).status_code

            assert set(threads.map(lambda each: post(*each), asked)) == {503}
        eventually(lambda: message(client, ids[0]).status_code == 201)


def test_a_server_ends_in_its_time_though_postgresql_is_frozen(tmp_path: Path) -> None:
    """Its supervisor would kill a worker that is not done 5 s after the grace of running turns, and exit with 1."""
    with (
        EmbeddedPostgres(tmp_path) as embedded,
        ServerProcess("--database-url", as_url(embedded.conninfo), workers=2) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        id_ = conversation(client)
        with frozen_postgresql(tmp_path):
            asking = threads.submit(message, client, id_)
            server.terminate()
            assert server.wait() == 0
            assert asking.exception() or asking.result().status_code == 503


def test_a_server_goes_on_with_what_the_log_holds_after_postgresql_was_restored(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with ServerProcess("--data-dir", data) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        id_ = conversation(client)
        assert message(client, id_, "kept").status_code == 201
        cluster = Cluster(data / "postgres", data / "postgres.log")
        cluster.stop()
        subprocess.run(["cp", "-a", data / "postgres", copy], check=True)
        cluster.start()
        eventually(lambda: message(client, id_, "lost").status_code == 201)
        for _ in range(3):
            assert message(client, id_, "lost").status_code == 201
        lost = conversation(client)
        cluster.stop()
        shutil.rmtree(data / "postgres")
        copy.rename(data / "postgres")
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


@contextmanager
def frozen_postgresql(data_dir: Path) -> Generator[None]:
    """Stop every process of an embedded PostgreSQL for as long as the block lasts."""
    postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    found = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=True)
    pids = [*map(int, found.stdout.split()), postmaster]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
