"""Server processes: starts, shutdowns, many workers, and restarts of PostgreSQL."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from postgres.embedded import EmbeddedPostgres
from tests.support.http import plain_http
from tests.support.models.model_scripts import Hang, Script
from tests.support.models.model_server import ModelServer
from tests.support.servers.server_process import LOADING, ROOT, ServerProcess, together
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def with_model(server: ModelServer, **settings: str) -> dict[str, str]:
    return {"TURNLOG_MODEL": "scripted", "TURNLOG_MODEL_API_BASE": server.url, **settings}


def started_conversation(url: str) -> str:
    answer = plain_http.post(f"{url}/v1/conversations", json={})
    assert answer.status_code == 201
    return answer.json()["id"]


def texts_of(url: str, conversation_id: str) -> list[str]:
    texts: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        path = f"{url}/v1/conversations/{conversation_id}/messages"
        page = plain_http.get(path, params={"limit": 100, **cursor}).raise_for_status().json()
        texts += [message["content"][0]["text"] for message in page["data"]]
        if page["next_cursor"] is None:
            return texts
        cursor = {"cursor": page["next_cursor"]}


def frames(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield {"event": event, **json.loads(line.removeprefix("data: "))}


def test_a_server_is_ready_before_its_model_library_has_loaded_and_opens_an_older_log(tmp_path: Path) -> None:
    data = ("--data-dir", tmp_path / "data")
    with ServerProcess(*data, model_library=False) as first:
        conversation_id = started_conversation(first.url)
    # The first start also creates the database, so only the second one is measured.
    with ServerProcess(*data, model_library=False) as second:
        assert second.cpu_s() < 4 * cpu_s_of_importing_the_application()
        assert plain_http.get(f"{second.url}/v1/conversations/{conversation_id}").status_code == 200
    assert second.wait() == 0, "".join(second.output)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_asked_to_end_does_not_wait_for_its_model_library(data_dir: Path, workers: int) -> None:
    with ServerProcess("--data-dir", data_dir, workers=workers, model_library=False) as server:
        eventually(lambda: server.output.count(f"{LOADING}\n") == workers)
        server.terminate()
        assert server.wait() == 0, "".join(server.output)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


def cpu_s_of_importing_the_application() -> float:
    """Return the processor time that a Python process needs for the imports alone."""
    program = "import cli.serve, cli.server, api.app, time; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_a_running_turn_gets_time_to_finish_when_the_server_shuts_down(
    data_dir: Path, model_server: ModelServer
) -> None:
    model_server.script("scripted", Script(["a", "b", "c", "d", "e"], delay_s=0.2))
    settings = with_model(model_server, TURNLOG_SHUTDOWN_GRACE_S=str(PATIENCE_S))
    with ServerProcess("--data-dir", data_dir, settings=settings) as server:
        body = {"content": "Hi", "stream": True}
        with plain_http.stream("POST", f"{server.url}/v1/turns", json=body) as answer:
            seen = frames(answer.iter_lines())
            # The first delta shows that the model library is loaded and the model answers.
            assert [next(seen)["event"] for _ in range(2)] == ["turn.started", "delta"]
            server.terminate()
            events = [frame["event"] for frame in seen]
        assert events == ["delta"] * 4 + ["block.done", "turn.completed"]
        assert server.wait() == 0


def test_a_turn_that_does_not_finish_in_time_fails_and_keeps_its_text(
    data_dir: Path, model_server: ModelServer
) -> None:
    model_server.script("scripted", Script(["so far", Hang()]))
    settings = with_model(model_server, TURNLOG_SHUTDOWN_GRACE_S="0.3")
    with ServerProcess("--data-dir", data_dir, settings=settings) as server:
        body = {"content": "Hi", "stream": True}
        with plain_http.stream("POST", f"{server.url}/v1/turns", json=body) as answer:
            seen = frames(answer.iter_lines())
            conversation_id = next(seen)["conversation_id"]
            assert next(seen)["text"] == "so far"
            server.terminate()
            last = list(seen)[-1]
        assert server.wait() == 0
    assert last["event"] == "turn.failed"
    assert last["error"]["code"] == "interrupted"
    assert last["message"]["status"] == "interrupted"
    with ServerProcess("--data-dir", data_dir, model_library=False) as server:
        assert texts_of(server.url, conversation_id) == ["Hi", "so far"]
        assert plain_http.get(f"{server.url}/v1/conversations/{conversation_id}").json()["status"] == "idle"


def test_two_servers_started_at_once_on_a_new_directory_share_the_log(tmp_path: Path) -> None:
    one, other = (ServerProcess("--data-dir", tmp_path / "data", model_library=False) for _ in range(2))
    with together(one, other):
        for writer, reader in ((one, other), (other, one)):
            conversation_id = started_conversation(writer.url)
            assert plain_http.get(f"{reader.url}/v1/conversations/{conversation_id}").status_code == 200


def test_eight_callers_of_two_workers_lose_nothing_and_read_their_writes(data_dir: Path) -> None:
    with ServerProcess("--data-dir", data_dir, workers=2, model_library=False) as server:
        path = f"{server.url}/v1/conversations/{started_conversation(server.url)}/messages"

        def add_ten(caller: int) -> list[str]:
            added: list[str] = []
            for number in range(10):
                # Each request has its own connection, so that both workers answer.
                answer = plain_http.post(path, json={"role": "user", "content": f"{caller}.{number}"})
                assert answer.status_code == 201, answer.text
                added.append(answer.json()["id"])
                assert "turnlog-behind" not in answer.headers
                assert plain_http.get(f"{path}/{added[-1]}").status_code == 200
            return added

        with ThreadPoolExecutor(8) as threads:
            added = list(threads.map(add_ten, range(8)))
        texts = texts_of(server.url, path.split("/")[-2])
    assert sorted(texts) == sorted(f"{caller}.{number}" for caller in range(8) for number in range(10))
    assert len({id_ for ids in added for id_ in ids}) == 80
    for caller in range(8):
        assert [text for text in texts if text.startswith(f"{caller}.")] == [f"{caller}.{n}" for n in range(10)]


def test_a_message_answered_with_201_survives_a_restart_of_postgresql_under_load(data_dir: Path) -> None:
    database = EmbeddedPostgres(data_dir)
    database.start()
    stopped = False
    try:
        with ServerProcess("--database-url", database.conninfo, model_library=False) as server:
            conversation_ids = [started_conversation(server.url) for _ in range(4)]
            done = Event()

            def write(conversation_id: str) -> tuple[list[str], set[int]]:
                kept: list[str] = []
                codes: set[int] = set()
                path = f"{server.url}/v1/conversations/{conversation_id}/messages"
                with plain_http.Client() as client:
                    for number in range(100_000):
                        if done.is_set():
                            break
                        answer = client.post(path, json={"role": "user", "content": f"{number}"})
                        codes.add(answer.status_code)
                        if answer.status_code == 201:
                            kept.append(f"{number}")
                        else:
                            assert answer.json()["code"] == "STORE_UNAVAILABLE", answer.text
                return kept, codes

            with ThreadPoolExecutor(4) as threads:
                writes = [threads.submit(write, id_) for id_ in conversation_ids]
                eventually(lambda: all(texts_of(server.url, id_) for id_ in conversation_ids))
                database.stop()
                stopped = True
                eventually(lambda: _readiness(server.url) == 503)
                database.start()
                stopped = False
                eventually(lambda: _readiness(server.url) == 200)
                before = [len(texts_of(server.url, id_)) for id_ in conversation_ids]
                eventually(
                    lambda: all(len(texts_of(server.url, i)) > n for i, n in zip(conversation_ids, before, strict=True))
                )
                done.set()
                kept = [write.result() for write in writes]
            # A write waits a while for PostgreSQL, so a quick restart may refuse none.
            assert {201} <= set().union(*(codes for _, codes in kept)) <= {201, 503}
            for conversation_id, (texts, _) in zip(conversation_ids, kept, strict=True):
                assert set(texts) <= set(texts_of(server.url, conversation_id))
            assert "Traceback" not in "".join(server.output)
    finally:
        if not stopped:
            database.stop()


def test_the_next_server_ends_a_turn_of_a_killed_one_and_keeps_its_text(
    data_dir: Path, model_server: ModelServer
) -> None:
    model_server.script("scripted", Script(["said ", "so far", Hang()]))
    settings = with_model(model_server)
    with ServerProcess("--data-dir", data_dir, settings=settings) as server:
        body = {"content": "Hi", "stream": True}
        with plain_http.stream("POST", f"{server.url}/v1/turns", json=body) as answer:
            seen = frames(answer.iter_lines())
            conversation_id = next(seen)["conversation_id"]
            assert [next(seen)["text"] for _ in range(2)] == ["said ", "so far"]
            eventually(lambda: "so far" in str(_recorded(server.url, conversation_id)))
            server.process.kill()
            server.process.wait()
    with ServerProcess("--data-dir", data_dir, model_library=False) as server:
        path = f"{server.url}/v1/conversations/{conversation_id}"
        eventually(lambda: plain_http.get(path).json()["status"] == "idle")
        (turn,) = plain_http.get(f"{path}/turns").json()["data"]
        assert (turn["status"], turn["error"]["code"]) == ("failed", "interrupted")
        said = plain_http.get(f"{path}/messages").json()["data"][-1]
        assert (said["content"][0]["text"], said["status"]) == ("said so far", "interrupted")
        assert plain_http.post(f"{path}/messages", json={"role": "user", "content": "Once more"}).status_code == 201


def _readiness(url: str) -> int:
    return plain_http.get(f"{url}/readyz").status_code


def _recorded(url: str, conversation_id: str) -> list[Any]:
    return plain_http.get(f"{url}/v1/conversations/{conversation_id}/log").json()["data"]
