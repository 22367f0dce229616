"""The output of commands on a real terminal, in a pipe and in a file."""

import asyncio
import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.events import ConversationEvent
from projections.catalog import PROJECTIONS, install
from tests.support.histories.builders import Story
from tests.support.rebuilding import caught_up, url
from tests.support.servers.terminal import Seen, on_terminal, screen
from tests.support.store import opened, rows

TURNLOG = str(Path(sysconfig.get_path("scripts")) / "turnlog")
EVIL = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066 \u2028\x7f\rb"
HIDDEN = set("\x1b\x07\x9b\u202e\u2066\u2028\x7f\x85")
COLOUR = re.compile(r"\x1b\[(?:[0-9]|3[0-7])m")


@pytest.fixture
def log_url(database_url: str) -> str:
    """A log of two conversations whose titles attack a terminal, and its read models."""
    install(database_url)
    events = [*Story(title=EVIL).events, *Story(title=f"{EVIL} 漢字 {'long ' * 80}").events]
    asyncio.run(recorded(database_url, events))
    return database_url


async def recorded(database_url: str, events: Sequence[ConversationEvent]) -> None:
    async with opened(database_url, listening=False) as store:
        await store.append(events)
        await caught_up(store, *PROJECTIONS)


def turnlog(conninfo: str, *arguments: str, columns: int = 100) -> Seen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TURNLOG_", "COLUMNS"))}
    return on_terminal([TURNLOG, *arguments, "--database-url", url(conninfo)], columns, environment=environment)


def piped(conninfo: str, *arguments: str) -> str:
    command = [TURNLOG, *arguments, "--database-url", url(conninfo)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_results_of_a_verification_stay_on_the_screen(log_url: str) -> None:
    seen = turnlog(log_url, "projections", "verify", "--all")
    assert seen.code == 0
    assert [line for line in seen.screen if "all the same." in line] == [
        f"{name} at position 2: {count} rows, all the same."
        for name, count in (("listing", 2), ("history", 0), ("context", 0), ("usage", 2), ("agents", 0), ("waits", 0))
    ]


def test_the_results_of_rebuilds_stay_on_the_screen_in_order(log_url: str) -> None:
    seen = turnlog(log_url, "projections", "rebuild", "--all")
    assert seen.code == 0
    for projection in PROJECTIONS:
        assert any(
            line.startswith(f"{projection.name} version") and "is read from now on" in line for line in seen.screen
        )


def test_results_go_to_a_file_and_the_progress_to_the_terminal(log_url: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    command = f"{TURNLOG} projections verify --all --database-url '{url(log_url)}' > {results}"
    assert on_terminal(["sh", "-c", command]).code == 0
    assert results.read_text().count("all the same.") == 6


def test_keys_of_differing_rows_contain_no_raw_control_characters(log_url: str) -> None:
    rows(log_url, "INSERT INTO usage_conversations_v1_1 SELECT gen_random_uuid(), 'a\u202eb', NULL")
    seen = turnlog(log_url, "projections", "verify", "usage")
    assert seen.code == 3
    assert any("rows differ." in line for line in seen.screen)
    assert (HIDDEN - {"\x1b"}) & set(seen.written) == set()  # the progress bars' own escapes aside


@pytest.mark.parametrize("columns", [60, 300])
def test_no_title_reaches_the_terminal_unescaped_in_json(log_url: str, columns: int) -> None:
    seen = turnlog(log_url, "log", "tail", "--json", columns=columns)
    assert seen.code == 0
    assert HIDDEN & set(seen.written) == set()
    assert "\\u001b[2J" in seen.written


def test_a_pipe_gets_no_raw_control_characters_and_json_keeps_the_recorded_text(log_url: str) -> None:
    assert HIDDEN & set(piped(log_url, "log", "tail")) == set()
    lines = piped(log_url, "log", "tail", "--json").splitlines()
    assert json.loads(lines[0])["data"]["title"] == EVIL
    assert len(lines) == 2


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140, 160, 300])
def test_lines_of_the_log_fit_the_terminal_and_contain_no_raw_title(log_url: str, columns: int) -> None:
    from rich.cells import cell_len

    seen = turnlog(log_url, "log", "tail", columns=columns)
    assert seen.code == 0
    assert HIDDEN & set(COLOUR.sub("", seen.written)) == set()
    assert "\\u001b[2J" in seen.written or columns < 160
    assert max(map(cell_len, seen.screen)) <= columns
    assert sum("ConversationStarted" in line for line in seen.screen) == 2


def test_errors_contain_no_raw_control_characters(log_url: str) -> None:
    seen = turnlog(log_url, "projections", "build", "--schema", "past", "--as-of", "\x1b[2J\u202e")
    assert seen.code == 2
    assert HIDDEN & set(seen.written) == set()
    assert len([line for line in seen.screen if line]) == 1


def test_a_closed_pipe_ends_a_command_without_an_error(log_url: str) -> None:
    asyncio.run(recorded(log_url, [event for _ in range(300) for event in Story().events]))
    command = f"{TURNLOG} log tail -n 1000 --database-url '{url(log_url)}' | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_the_screen_of_these_tests_erases_lines_as_a_terminal_does() -> None:
    assert screen("one\r\ntwo\r\n\x1b[1A\x1b[2Kthree\r\nfour") == ["one", "three", "four"]
    assert screen("result\r\n\x1b[1A\x1b[2K\rbar") == ["bar", ""]
