"""`turnlog import` of what `turnlog log export` wrote, into an empty log."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import turnlog
from projections.catalog import prepare
from tests.support.histories.agents import AgentStory
from tests.support.histories.builders import one_of_each
from tests.support.rebuilding import url
from tests.support.store import opened, rows, value

EXAMPLE = Path(__file__).parents[2] / "support" / "exports" / "example.jsonl"


def run(conninfo: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(turnlog, [*map(str, arguments), "--database-url", url(conninfo)])


def check_refused(result: Result, *words: str, code: int = 1) -> None:
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    *progress, line = result.stderr.splitlines()
    assert all(each.startswith("log: importing") for each in progress), result.stderr
    assert line.startswith("Error: ")
    assert [word for word in words if word not in line] == [], line


def events(conninfo: str) -> list[Any]:
    return rows(conninfo, "SELECT position, type, data, actor, recorded_at, digest FROM events ORDER BY position")


@pytest.fixture
def log_url(database_url: str) -> str:
    """A log with one event of each type."""
    prepare(database_url, "turnlog")
    asyncio.run(record(database_url))
    return database_url


@pytest.fixture
def empty_url(empty_database_url: str) -> str:
    """An empty log."""
    prepare(empty_database_url, "turnlog")
    return empty_database_url


async def record(conninfo: str) -> None:
    async with opened(conninfo, listening=False) as store:
        await store.append(one_of_each())
        await store.append(AgentStory().events)


@pytest.fixture
def export(log_url: str, tmp_path: Path) -> Path:
    path = tmp_path / "export"
    result = run(log_url, "log", "export", "--out", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("options", [(), ("--format", "turnlog")], ids=["recognized", "chosen"])
def test_a_log_is_imported_as_it_was(log_url: str, empty_url: str, export: Path, options: tuple[str, ...]) -> None:
    result = run(empty_url, "import", export, *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Imported the log ")
    assert result.stdout.endswith(f" with {len(events(log_url))} events (0 erased) and 0 images.\n")
    assert events(empty_url) == events(log_url)
    assert run(empty_url, "log", "verify").exit_code == 0


@pytest.mark.parametrize("options", [("--owner", "alice"), ("--dry-run",)], ids=["owner", "dry run"])
def test_a_log_is_not_imported_for_an_owner_or_on_trial(empty_url: str, export: Path, options: tuple[str, ...]) -> None:
    check_refused(run(empty_url, "import", export, *options), "without --owner and --dry-run", code=2)
    assert events(empty_url) == []


def test_a_log_that_is_not_empty_takes_no_other_one(empty_url: str, export: Path) -> None:
    assert run(empty_url, "import", EXAMPLE).exit_code == 0
    before = events(empty_url)
    check_refused(run(empty_url, "import", export), "not empty")
    assert events(empty_url) == before


def test_conversations_may_follow_an_imported_log(log_url: str, empty_url: str, export: Path) -> None:
    assert run(empty_url, "import", export).exit_code == 0
    result = run(empty_url, "import", EXAMPLE)
    assert (result.exit_code, result.stdout) == (0, "Recorded 1 conversation with 2 messages.\n")
    assert value(empty_url, "SELECT position FROM head") == len(events(log_url)) + 3
    assert run(empty_url, "log", "verify").exit_code == 0


def test_a_damaged_export_of_a_log_records_nothing(empty_url: str, export: Path) -> None:
    (file,) = export.glob("events-*.jsonl")
    file.write_bytes(file.read_bytes().replace(b"Hello", b"Hallo", 1))
    check_refused(run(empty_url, "import", export), file.name, "does not match its digest", code=3)
    assert events(empty_url) == []


def test_a_path_that_is_no_export_of_a_log_is_refused(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (EXAMPLE, tmp_path / "folder"):
        check_refused(run(empty_url, "import", path, "--format", "turnlog"), path.name)
    assert events(empty_url) == []
