"""Rebuilding the read models of a server under load without failed requests."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event, Lock

import httpx

from tests.support.http import plain_http
from tests.support.servers.server_process import ROOT, UNHURRIED, ServerProcess
from tests.support.waiting import PATIENCE_S

CONVERSATIONS = 20
WRITERS, READERS = 2, 1


class Load:
    """Clients that write, read their writes, and page.

    `requests` counts their requests, and `failures` lists the wrong answers.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = Event()
        self._lock = Lock()
        self.requests = 0
        self.failures: list[str] = []
        with self._client() as client:
            self._ids = [client.post("/v1/conversations", json={}).json()["id"] for _ in range(CONVERSATIONS)]

    def run_during(self, work: Callable[[], None]) -> None:
        """Put load on the server for as long as `work` takes."""
        with ThreadPoolExecutor(WRITERS + READERS) as threads:
            clients = [threads.submit(self._write, self._ids[number::WRITERS]) for number in range(WRITERS)]
            clients += [threads.submit(self._read, number) for number in range(READERS)]
            try:
                work()
            finally:
                self._ended.set()
            for client in clients:
                client.result()

    def _client(self) -> httpx.Client:
        return plain_http.Client(base_url=self._url)

    def _write(self, ids: list[str]) -> None:
        said = dict.fromkeys(ids, 0)
        random = Random(ids[0])
        with self._client() as client:
            while not self._ended.is_set():
                id_ = random.choice(ids)
                said[id_] += 1
                body = {"role": "user", "content": f"message {said[id_]}"}
                written = client.post(f"/v1/conversations/{id_}/messages", json=body)
                self._check(written, written.status_code == 201 and "turnlog-behind" not in written.headers)
                conversation = client.get(f"/v1/conversations/{id_}")
                self._check(conversation, conversation.json().get("message_count") == said[id_])
                newest = client.get(f"/v1/conversations/{id_}/messages", params={"order": "desc", "limit": 1})
                self._check(newest, newest.json().get("data", [{}])[0].get("id") == written.json().get("id"))

    def _read(self, seed: int) -> None:
        random = Random(seed)
        counted = dict.fromkeys(self._ids, 0)
        with self._client() as client:
            while not self._ended.is_set():
                listing = client.get("/v1/conversations", params={"limit": 100})
                rows = listing.json().get("data", [])
                self._check(listing, len(rows) == CONVERSATIONS)
                for row in rows:
                    self._check(listing, row["message_count"] >= counted[row["id"]])
                    counted[row["id"]] = row["message_count"]
                context = client.get(f"/v1/conversations/{random.choice(self._ids)}/context")
                self._check(context, context.status_code == 200)

    def _check(self, response: httpx.Response, as_it_should_be: bool) -> None:
        with self._lock:
            self.requests += 1
            if not as_it_should_be or response.status_code >= 300:
                self.failures.append(f"{response.request.method} {response.url}: {response.status_code}")


def turnlog(data: Path, *arguments: str) -> str:
    """Run a command beside the server and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments, "--data-dir", str(data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rebuild_switch_verify_rollback_and_prune_under_load_fail_no_request(data_dir: Path) -> None:
    with ServerProcess("--data-dir", data_dir, workers=2, program=UNHURRIED) as server:
        load = Load(server.url)
        builds: list[int] = []

        def reads_build() -> None:
            projection = plain_http.get(f"{server.url}/v1/projections/listing").json()
            assert projection["status"] == "running", projection
            builds.append(projection["build"])

        def operate() -> None:
            reads_build()
            assert "is read from now on instead of build 1" in turnlog(data_dir, "projections", "rebuild", "--all")
            reads_build()
            assert "differ" not in turnlog(data_dir, "projections", "verify", "--all")
            turnlog(data_dir, "projections", "rebuild", "--rollback", "--all")
            reads_build()
            turnlog(data_dir, "projections", "rebuild", "listing", "--workers", "2")
            reads_build()
            assert "was dropped" in turnlog(data_dir, "projections", "rebuild", "--prune", "--all")
            reads_build()

        load.run_during(operate)
        assert builds == [1, 2, 1, 3, 3]
        assert load.failures == []
        assert load.requests > 100
        assert "differ" not in turnlog(data_dir, "projections", "verify", "--all")
