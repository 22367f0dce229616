"""The five commands that put a server on a network work as they stand on the page."""

import re
from pathlib import Path

import pytest

from tests.support.servers.page_scripts import free_port, make_program, run_script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SECTION = re.search(r"^### In five commands\n.*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TURNLOG = ".venv/bin/turnlog"


@pytest.fixture
def commands() -> list[str]:
    assert SECTION
    lines = SECTION[1].splitlines()
    assert len(lines) == 5
    return lines


def test_the_first_command_makes_the_program_that_the_others_call(commands: list[str]) -> None:
    installing, *rest = commands
    assert installing.endswith("&& make setup")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^setup:", makefile, re.MULTILINE)
    assert re.search(r"^VENV\s*[:?]?=\s*\.venv$", makefile, re.MULTILINE)
    assert sum(TURNLOG in line for line in rest) == 2


def test_the_other_commands_end_with_the_answer_to_a_request_with_the_key(
    commands: list[str], data_dir: Path, tmp_path: Path
) -> None:
    port, program = free_port(), make_program(tmp_path)
    start, *rest = (line.replace(TURNLOG, str(program)).replace("8000", str(port)) for line in commands[1:])
    assert "--workers 2 " in start
    lines = [start.replace("--workers 2 ", f"--workers 2 --port {port} "), *rest, "kill $!", "wait $!"]
    printed = run_script("\n".join(lines), tmp_path, data_dir)
    assert f"every address of this machine, port {port}" in printed
    assert re.search(r"^tlk_[0-9A-Za-z]+$", printed, re.MULTILINE)
    assert "event: turn.completed" in printed
