"""One of the running servers restarts an embedded PostgreSQL that died."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from postgres.cluster import Cluster
from tests.support.http import plain_http
from tests.support.servers.own_postgres import (
    copy_cluster,
    kill_postgres,
    kill_postmaster,
    postmaster_pid,
)
from tests.support.servers.server_process import UNHURRIED, ServerProcess
from tests.support.waiting import eventually


def serving(*arguments: str | Path, workers: int = 1) -> ServerProcess:
    """Return a server for requests without turns."""
    return ServerProcess(*arguments, workers=workers, program=UNHURRIED)


@contextmanager
def no_start(data_dir: Path) -> Generator[None]:
    """Make PostgreSQL refuse to start for the block."""
    settings = data_dir / "postgres" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text(f"{before}shared_buffers = 'a lot'\n")
    try:
        yield
    finally:
        settings.write_text(before)


def get(url: str, path: str) -> tuple[int, dict[str, Any]]:
    answer = plain_http.get(f"{url}{path}")
    return answer.status_code, answer.json()


def serves(url: str) -> bool:
    return get(url, "/readyz")[0] == 200


def start(url: str, title: str) -> httpx.Response:
    return plain_http.post(f"{url}/v1/conversations", json={"title": title})


def started(url: str, title: str) -> str:
    return start(url, title).raise_for_status().json()["id"]


def store_is(url: str, state: str) -> bool:
    return get(url, "/readyz")[1].get("store") == state


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_get_503_while_postgresql_is_away_and_are_served_afterwards(data_dir: Path, workers: int) -> None:
    with serving("--data-dir", data_dir, workers=workers) as server:
        conversation_id = started(server.url, "before")
        with no_start(data_dir):
            # A session may still answer until it notices, and each worker has its own sessions.
            kill_postgres(data_dir)
            eventually(lambda: store_is(server.url, "restarting"))
            status, ready = get(server.url, "/readyz")
            assert (status, ready["status"]) == (503, "unavailable")
            assert ready["detail"] == "PostgreSQL died and is being started again."
            assert get(server.url, "/healthz") == (200, {"status": "ok"})
            assert get(server.url, f"/v1/conversations/{conversation_id}")[0] == 503
            refused = start(server.url, "refused")
            assert (refused.status_code, refused.json()["code"]) == (503, "STORE_UNAVAILABLE")
            eventually(lambda: "could not be restarted" in "".join(server.output))
        eventually(lambda: serves(server.url))
        # The read models may have lost their newest rows, which are rebuilt from the log.
        eventually(lambda: get(server.url, f"/v1/conversations/{conversation_id}")[1]["title"] == "before")
        eventually(lambda: start(server.url, "after").status_code == 201)
        server.terminate()
        assert server.wait() == 0
    assert postmaster_pid(data_dir) is None
    output = "".join(server.output)
    assert "Traceback" not in output, output


def test_two_servers_on_one_directory_restart_it_once_and_the_last_one_stops_it(data_dir: Path) -> None:
    with serving("--data-dir", data_dir) as one, serving("--data-dir", data_dir) as other:
        started(one.url, "before")
        kill_postmaster(data_dir)
        eventually(lambda: "runs again" in "".join(one.output + other.output))
        for server in (one, other):
            eventually(lambda server=server: serves(server.url))
        assert "".join(one.output + other.output).count("runs again") == 1
        one.terminate()
        assert one.wait() == 0
        assert serves(other.url)
    assert postmaster_pid(data_dir) is None


def test_a_server_whose_postgresql_does_not_restart_shuts_down_cleanly(data_dir: Path) -> None:
    with serving("--data-dir", data_dir) as server, no_start(data_dir):
        kill_postmaster(data_dir)
        eventually(lambda: "could not be restarted" in "".join(server.output))
        server.terminate()
        assert server.wait() == 0


def test_a_postgresql_that_an_operator_stopped_is_not_restarted_while_its_directory_is_replaced(data_dir: Path) -> None:
    postgres, copy = data_dir / "postgres", data_dir / "copy"
    with serving("--data-dir", data_dir) as server:
        kept = started(server.url, "kept")
        Cluster(postgres, data_dir / "postgres.log").stop()
        copy_cluster(postgres, copy)
        eventually(lambda: store_is(server.url, "stopped"))
        shutil.rmtree(postgres)
        assert get(server.url, "/readyz")[0] == 503
        copy.rename(postgres)
        eventually(lambda: store_is(server.url, "stopped"))
        assert postmaster_pid(data_dir) is None
        with serving("--data-dir", data_dir) as other:  # any command starts it
            assert get(other.url, f"/v1/conversations/{kept}")[0] == 200
            eventually(lambda: serves(server.url))
    assert postmaster_pid(data_dir) is None


def test_an_ephemeral_postgresql_is_restarted_too_and_removed_at_the_end() -> None:
    with serving("--ephemeral") as server:
        (data_dir,) = {
            Path(line.split()[-1].decode()).parent
            for line in _arguments_of_children(server.process.pid)
            if line.endswith(b"postmaster.pid")
        }
        data_dir = data_dir.parent
        kill_postmaster(data_dir)
        eventually(lambda: "runs again" in "".join(server.output))
        eventually(lambda: serves(server.url))
    eventually(lambda: not data_dir.exists())


def _arguments_of_children(pid: int) -> list[bytes]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").strip() for child in children]
