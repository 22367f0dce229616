"""Imports that are killed, interrupted, or run at the same time, and a large one."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import psycopg
import pytest

from projections.catalog import prepare
from tests.support.command_line import clean_environment, run_here
from tests.support.exports.large_exports import MEGABYTE, large_export, short_conversations
from tests.support.rebuilding import url
from tests.support.servers.running_command import RunningCommand
from tests.support.servers.terminal import on_terminal
from tests.support.store import rows, value
from tests.support.waiting import PATIENCE_S, eventually

TURNLOG = str(Path(sysconfig.get_path("scripts")) / "turnlog")
NUMBER = 3000
MAX_RESIDENT_BYTES = 300 * MEGABYTE
MEASURING = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and prints the kilobytes that it had resident at most.

A process begins with the peak of the one that forked it, and that of the tests is large.
"""


def command(conninfo: str, path: Path) -> list[str]:
    return [TURNLOG, "import", str(path), "--database-url", url(conninfo)]


def imported(conninfo: str, path: Path) -> str:
    done = run_here("import", path, "--database-url", url(conninfo))
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(conninfo: str) -> int:
    return value(conninfo, "SELECT count(*) FROM events WHERE type = 'ConversationStarted'")


def content(conninfo: str) -> list[Any]:
    """Return all that an import records, but its positions and times."""
    return rows(conninfo, "SELECT aggregate_id, version, type, data, actor FROM events ORDER BY aggregate_id, version")


@pytest.fixture
def log_url(database_url: str) -> str:
    prepare(database_url, "turnlog")
    return database_url


@pytest.fixture
def undisturbed_url(empty_database_url: str) -> str:
    prepare(empty_database_url, "turnlog")
    return empty_database_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return short_conversations(tmp_path / "chats.jsonl", NUMBER)


def test_an_import_that_was_killed_is_repeated(log_url: str, undisturbed_url: str, path: Path) -> None:
    with RunningCommand(command(log_url, path), clean_environment()):
        eventually(lambda: recorded(log_url))
    # The block has killed the command. A commit that had begun ends by itself.
    with psycopg.connect(log_url) as connection:
        connection.execute("LOCK TABLE turnlog.head IN ACCESS EXCLUSIVE MODE")
    before = recorded(log_url)
    assert 0 < before < NUMBER
    assert value(log_url, "SELECT count(*) FROM events") == 3 * before
    assert imported(log_url, path) == (
        f"Recorded {NUMBER - before:,} conversations with {2 * (NUMBER - before):,} messages."
        f" {before:,} {'was' if before == 1 else 'were'} there already.\n"
    )
    imported(undisturbed_url, path)
    assert content(log_url) == content(undisturbed_url)


def test_ctrl_c_leaves_whole_conversations_and_says_how_many(log_url: str, path: Path) -> None:
    with RunningCommand(command(log_url, path), clean_environment()) as running:
        eventually(lambda: recorded(log_url))
        assert running.interrupt() == 1
    before = recorded(log_url)
    assert 0 < before < NUMBER
    assert value(log_url, "SELECT count(*) FROM events") == 3 * before
    assert running.output == ""
    assert running.errors.splitlines()[-1] == f"Error: Interrupted. {before:,} conversations were recorded before."
    assert imported(log_url, path).endswith(f"{before:,} were there already.\n")
    assert recorded(log_url) == NUMBER


def test_two_imports_of_one_file_at_once_record_it_once(log_url: str, undisturbed_url: str, tmp_path: Path) -> None:
    path = short_conversations(tmp_path / "few.jsonl", 1000)
    running = [
        subprocess.Popen(
            command(log_url, path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
        )
        for _ in range(2)
    ]
    outputs = [each.communicate(timeout=PATIENCE_S) for each in running]
    assert [each.returncode for each in running] == [0, 0], outputs
    counts = [int(out.split()[1].replace(b",", b"")) for out, _ in outputs]
    assert sum(counts) == 1000
    imported(undisturbed_url, path)
    assert content(log_url) == content(undisturbed_url)


def test_only_the_outcome_stays_on_a_terminal(log_url: str, tmp_path: Path) -> None:
    path = short_conversations(tmp_path / "chats.jsonl", 300)
    seen = on_terminal(command(log_url, path), environment=clean_environment())
    assert seen.code == 0
    assert [line for line in seen.screen if line] == ["Recorded 300 conversations with 600 messages."]
    assert "import" in seen.written  # the bar was there


@pytest.mark.slow
def test_a_file_of_50_mb_is_imported_in_little_memory(log_url: str, tmp_path: Path) -> None:
    path = large_export(tmp_path / "conversations.json", 50)
    with (tmp_path / "out").open("w") as out:
        measured = subprocess.run(
            [sys.executable, "-c", MEASURING, *command(log_url, path)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            check=True,
        )
    number = recorded(log_url)
    assert (tmp_path / "out").read_text() == (f"Recorded {number:,} conversations with {number * 120:,} messages.\n")
    assert int(measured.stderr.splitlines()[-1]) * 1024 < MAX_RESIDENT_BYTES
