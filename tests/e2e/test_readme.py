"""The curl lines of the README work in a shell, against a server just started."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.support.http import plain_http
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
START = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--ephemeral"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server process with default settings."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
    server = subprocess.Popen(
        [*START, "--port", str(free)],
        cwd=tmp_path_factory.mktemp("server"),
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    with server:
        try:
            assert server.stdout.readline() == f"Turnlog is ready at http://127.0.0.1:{free}\n"
            yield free
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE_S)
    assert server.returncode == 0


@pytest.fixture(scope="module")
def answers(port: int) -> list[str]:
    """The output of each of the five lines, run in one shell with another port."""
    lines = curl_lines()
    assert len(lines) == 5
    script = "\necho; echo ====\n".join(line.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for line in lines)
    done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    return [answer.strip() for answer in done.stdout.split("\n====\n")]


def curl_lines() -> list[str]:
    block = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "curl" in block)
    return block.strip().splitlines()


def test_the_first_line_starts_a_conversation_and_keeps_its_id(answers: list[str], port: int) -> None:
    assert answers[0] == ""
    (conversation,) = orjson.loads(answers[3])["data"]
    found = plain_http.get(f"http://127.0.0.1:{port}/v1/conversations/{conversation['id']}").json()
    assert found["title"] == "First steps"


def test_the_second_line_streams_an_answer(answers: list[str]) -> None:
    comment, *events = answers[1].split("\n\n")
    assert comment == ": open"
    # More comments may follow until the model library is loaded.
    events = [event for event in events if not event.startswith(":")]
    frames = [dict(line.split(": ", 1) for line in frame.splitlines()) for frame in events]
    assert [int(frame["id"]) for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0]["event"] == "turn.started"
    assert frames[-1]["event"] == "turn.completed"
    text = "".join(orjson.loads(frame["data"])["text"] for frame in frames if frame["event"] == "delta")
    assert "You said: “Hello!”" in text


def test_the_third_line_reads_the_question_and_the_answer(answers: list[str]) -> None:
    question, answer = orjson.loads(answers[2])["data"]
    assert (question["role"], question["content"]) == ("user", [{"type": "text", "text": "Hello!"}])
    assert (answer["role"], answer["status"], answer["in_reply_to"]) == ("assistant", "completed", question["id"])


def test_the_fourth_line_lists_the_conversation(answers: list[str]) -> None:
    (conversation,) = orjson.loads(answers[3])["data"]
    assert (conversation["title"], conversation["message_count"], conversation["status"]) == ("First steps", 2, "idle")


def test_the_fifth_line_returns_the_recorded_events(answers: list[str]) -> None:
    types = [event["type"] for event in orjson.loads(answers[4])["data"]]
    assert types[:3] == ["ConversationStarted", "MessageAdded", "TurnStarted"]
    assert types[-2:] == ["MessageAdded", "TurnCompleted"]
    assert "StreamDelta" in types


def test_the_commands_of_the_readme_exist(port: int) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)", README)) <= targets
    paths = plain_http.get(f"http://127.0.0.1:{port}/openapi.json").json()["paths"]
    routes = {(method.upper(), path.replace("conversation_id", "id")) for path in paths for method in paths[path]}
    told = re.findall(r"`(GET|POST) (/v1/[^`]*)`", README)
    assert told
    assert set(told) <= routes
