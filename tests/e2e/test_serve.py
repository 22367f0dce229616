"""The command `turnlog serve`: its help and the starts that it refuses."""

import os
import resource
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import turnlog
from tests.support.http import plain_http
from tests.support.rebuilding import url
from tests.support.servers.server_process import ServerProcess
from tests.support.waiting import PATIENCE_S, eventually

TURNLOG = Path(sysconfig.get_path("scripts")) / "turnlog"


def run(*arguments: str, settings: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
    done = subprocess.run(
        [TURNLOG, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment | dict(settings or {}),
    )
    return done.returncode, done.stdout, done.stderr


def test_help_needs_little_more_cpu_than_importing_its_library() -> None:
    def cpu_s(*command: str | Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    least = min(cpu_s(sys.executable, "-c", "import click") for _ in range(3))
    assert min(cpu_s(TURNLOG, "--help") for _ in range(3)) < 3 * least


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    check = "import sys; from cli.main import turnlog; turnlog(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert all(f"\n  {name}" in done.stdout for name in ("serve", "log", "projections"))
    assert not {"uvicorn", "fastapi", "psycopg", "pydantic", "eventsourcing", "litellm"} & set(done.stdout.split())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::", "example.com", ""])
def test_an_address_that_other_machines_can_reach_is_refused(host: str) -> None:
    code, out, err = run("serve", "--host", host, "--ephemeral")
    assert (code, out) == (2, "")
    assert "loopback" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_with_authentication_listens_on_every_address(host: str, database_url: str) -> None:
    arguments = ("--database-url", url(database_url), "--host", host)
    with ServerProcess(*arguments, settings={"TURNLOG_AUTH": "keys"}, model_library=False) as server:
        port = server.url.rpartition(":")[2]
        assert server.url == f"http://127.0.0.1:{port}"
        # Every name is served, as a name grants nothing.
        assert plain_http.get(f"{server.url}/healthz", headers={"Host": "evil.example"}).status_code == 200
        if host == "::":
            assert plain_http.get(f"http://[::1]:{port}/healthz").status_code == 200
        printed = "\n".join(server.output)
        assert f"every address of this machine, port {port}" in printed
        assert "turnlog keys create" in printed
        assert "authorization: Bearer" in printed


def test_the_printed_lines_make_a_key_and_stream_an_answer_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    with ServerProcess("--data-dir", directory, settings={"TURNLOG_AUTH": "keys"}) as server:
        eventually(lambda: any("Ctrl-C" in line for line in server.output))
        shown = {name: line for name, _, line in (text.strip().partition(" ") for text in server.output)}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
        script = f"{shown['key'].strip()}\n{shown['try'].strip()}"
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment | {"PATH": f"{TURNLOG.parent}:{os.environ['PATH']}"},
        )
    assert done.returncode == 0, done.stderr
    assert "event: turn.completed" in done.stdout


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a" * 300, "203.0.113.1"])
def test_an_address_that_cannot_be_listened_on_is_reported(host: str) -> None:
    code, out, err = run("serve", "--host", host, "--port", "0", "--ephemeral", settings={"TURNLOG_AUTH": "keys"})
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: Cannot listen on {host} port 0: ")
    assert err.count("\n") == 1


def test_an_empty_address_is_refused_with_authentication_too() -> None:
    code, out, err = run("serve", "--host", "", "--ephemeral", settings={"TURNLOG_AUTH": "keys"})
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_a_port_in_use_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("serve", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert (code, out) == (1, "")
    assert err == f"Error: Cannot listen on 127.0.0.1 port {port}: Address already in use.\n"
    assert not (tmp_path / "data").exists()


def test_a_database_that_does_not_answer_is_reported_without_its_password() -> None:
    code, out, err = run("serve", "--port", "0", "--database-url", "postgresql://me:s3cret@127.0.0.1:1/log")
    assert (code, out) == (1, "")
    assert err.startswith("Error: The database cannot be reached: ")
    assert err.count("\n") == 1
    assert "s3cret" not in err


def test_a_data_directory_that_cannot_be_used_is_an_error() -> None:
    code, out, err = run("serve", "--port", "0", "--data-dir", "/proc/turnlog")
    assert (code, out) == (1, "")
    assert err.startswith("Error: cannot use the data directory /proc/turnlog: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data-dir", "a", "--database-url", "postgresql://localhost/log"),
        ("--data-dir", "a", "--ephemeral"),
        ("--database-url", "postgresql://localhost/log", "--ephemeral"),
        ("--database-url", "sqlite:///log"),
    ],
)
def test_database_options_that_exclude_each_other_are_refused(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(turnlog, ["serve", "--port", "0", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TURNLOG_LOG_SCHEMA", "Not-A-Schema"),
        ("TURNLOG_AUTH", "basic"),
        ("TURNLOG_ALLOWED_HOSTS", "example.com"),
        ("TURNLOG_CORS_ORIGINS", "https://app.example.com"),
        ("TURNLOG_LIMIT_OPEN_STREAMS", "-5"),
        ("TURNLOG_SHUTDOWN_GRACE_S", "-1"),
        ("TURNLOG_MODEL_TOTAL_TIMEOUT_S", "soon"),
        ("TURNLOG_DATABASE_URL", "mysql://s3cret@localhost/log"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from_environment = CliRunner().invoke(turnlog, ["serve", "--port", "0"], env={name: value})
    (tmp_path / ".env").write_text(f"{name}={value}\n")
    from_file = CliRunner().invoke(turnlog, ["serve", "--port", "0"])
    for done in (from_environment, from_file):
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"Error: {name}: ")
        assert done.stderr.count("\n") == 1
        assert value not in done.stderr
