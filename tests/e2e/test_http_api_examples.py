"""The examples of docs/http-api.md work in a shell, one after the other."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import orjson
import pytest

from tests.support.servers.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
EXAMPLES = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def answers() -> Iterator[list[list[str]]]:
    """The lines that each example prints.

    The last example is a live feed. Its lines end with the end of the turn.
    """
    with ServerProcess("--ephemeral") as server:
        script = "echo ====\n".join(EXAMPLES).replace("http://127.0.0.1:8000", server.url)
        with subprocess.Popen(
            ["bash", "-eu", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as shell:
            assert shell.stdout
            printed = "".join(takewhile(lambda line: line != "event: TurnCompleted\n", shell.stdout))
            os.killpg(shell.pid, signal.SIGTERM)
        yield by_example(printed)


def by_example(printed: str) -> list[list[str]]:
    return [answer.splitlines() for answer in printed.split("====\n")]


def test_each_example_prints_something(answers: list[list[str]]) -> None:
    assert [len(answer) > 0 for answer in answers] == [True] * len(EXAMPLES)


def test_the_first_example_reads_a_conversation(answers: list[list[str]]) -> None:
    assert orjson.loads(answers[0][0])["title"] == "First steps"


def test_the_second_example_streams_a_turn(answers: list[list[str]]) -> None:
    assert answers[1][:3] == [": open", "", "id: 1"]
    assert "event: turn.completed" in answers[1]


def test_the_third_example_resumes_the_stream_after_the_frame_that_it_names(answers: list[list[str]]) -> None:
    assert [line for line in answers[2] if line.startswith("id: ")] == [
        line for line in answers[1] if line.startswith("id: ")
    ][12:]


def test_the_fourth_example_follows_the_log_from_its_first_event(answers: list[list[str]]) -> None:
    assert answers[3][:4] == [": open", "", "id: 1", "event: ConversationStarted"]
