"""`turnlog log export` from the command line."""

import asyncio
import json
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from projections.catalog import prepare
from tests.support.audits import tamper
from tests.support.command_line import Finished, clean_environment, run_here
from tests.support.histories.builders import Story
from tests.support.log_exports import files, imported, record_everything
from tests.support.rebuilding import url
from tests.support.servers.terminal import on_terminal
from tests.support.store import opened, value
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]
TURNLOG = str(Path(sysconfig.get_path("scripts")) / "turnlog")
NO_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from cli.main import main
main()
"""


def data_dir(out: Path) -> dict[str, str]:
    """Return the variable that names a data directory beside an export."""
    return {"TURNLOG_DATA_DIR": str(out.parent / "data")}


@pytest.fixture
def log_url(database_url: str) -> str:
    """A log with every type of event."""

    async def record() -> None:
        async with opened(database_url, listening=False) as store:
            await record_everything(store)

    prepare(database_url, "turnlog")
    asyncio.run(record())
    return database_url


def arguments(conninfo: str, out: Path) -> list[str]:
    return ["log", "export", "--out", str(out), "--database-url", url(conninfo)]


def export(conninfo: str, out: Path, *options: str) -> Finished:
    return run_here(*arguments(conninfo, out), *options, environment=data_dir(out))


@pytest.mark.parametrize("format_name", ["jsonl", "parquet"])
def test_a_log_is_exported(log_url: str, empty_database_url: str, tmp_path: Path, format_name: str) -> None:
    done = export(log_url, tmp_path / "export", "--format", format_name)
    assert done.returncode == 0, done.stderr
    head = value(log_url, "SELECT position FROM head")
    found = files(tmp_path / "export")
    assert done.stdout.startswith(f"{head} events and their images are in 2 files of ")
    assert done.stdout.endswith(f" bytes in {tmp_path / 'export'}.\n")
    assert f"log: exporting {head} of {head}" in done.stderr
    assert found.keys() == {
        "manifest.json",
        f"events-000000000001.{format_name}",
        "images-000000000001.jsonl",
    }
    assert (tmp_path / "export").stat().st_mode & 0o777 == 0o700
    prepare(empty_database_url, "turnlog")
    assert asyncio.run(imported(empty_database_url, tmp_path / "export")).events == head


def test_an_export_that_was_finished_before_says_so(log_url: str, tmp_path: Path) -> None:
    first = export(log_url, tmp_path / "export")
    second = export(log_url, tmp_path / "export")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "finished before" not in first.stderr
    assert second.stderr == ("This export was finished before and stays as it is. A new directory gets a new export.\n")


def test_progress_is_shown_on_a_terminal(log_url: str, tmp_path: Path) -> None:
    out = tmp_path / "export"
    seen = on_terminal([TURNLOG, *arguments(log_url, out)], environment=clean_environment(**data_dir(out)))
    assert seen.code == 0, seen.screen
    assert "exporting" in seen.written
    assert [line for line in seen.screen if "exporting" in line] == []


def test_a_key_that_was_made_signs_the_manifest(log_url: str, tmp_path: Path) -> None:
    assert export(log_url, tmp_path / "unsigned").returncode == 0
    assert json.loads((tmp_path / "unsigned" / "manifest.json").read_bytes())["checkpoint"] is None
    assert not (tmp_path / "data").exists()
    variables = data_dir(tmp_path / "signed")
    checkpoint = run_here("log", "checkpoint", "--database-url", url(log_url), environment=variables)
    assert checkpoint.returncode == 0, checkpoint.stderr
    assert export(log_url, tmp_path / "signed").returncode == 0
    assert json.loads((tmp_path / "signed" / "manifest.json").read_bytes())["checkpoint"] == checkpoint.stdout


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--format", "csv"], 2, "csv"),
        (["--type", "Nothing"], 2, "is not a type of event"),
        (["--from", "yesterday"], 2, "--from yesterday: must be a log position or a time"),
        (["--to", "2026-01-02T03:04:05"], 2, "needs a time zone"),
        (["--from", "5", "--to", "4"], 2, "--from is after --to"),
        (["--from", "100000"], 1, "100000 is beyond the end of the log"),
        (["--to", "2999-01-01T00:00:00Z"], 1, "is beyond the end of the log"),
        (["--owner", "a\udcffb"], 2, "surrogate"),
    ],
    ids=lambda value: ascii(value),
)
def test_options_that_select_nothing_sensible_are_an_error(
    log_url: str, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    done = export(log_url, tmp_path / "export", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "export").exists()


def test_a_damaged_log_exits_with_3(log_url: str, tmp_path: Path) -> None:
    tamper(log_url, "DELETE FROM events WHERE position = 7")
    done = export(log_url, tmp_path / "export")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert done.stderr.startswith("Error: ")


def test_a_directory_with_something_else_is_one_line(log_url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = export(log_url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {tmp_path} is not empty, and holds no export.\n"


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(log_url: str, tmp_path: Path) -> None:
    async def record() -> None:
        async with opened(log_url, listening=False) as store:
            await store.append(Story(metadata={"text": "ab" * 15_000}).events)

    asyncio.run(record())
    out = tmp_path / "export"
    full = subprocess.run(
        [TURNLOG, *arguments(log_url, out)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=clean_environment(**data_dir(out)),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert (full.returncode, full.stdout) == (1, "")
    (error,) = [line for line in full.stderr.splitlines() if not line.startswith("log: exporting")]
    assert error == (
        f"Error: {tmp_path / 'export'} cannot be written: File too large. The same command goes on with it."
    )
    assert files(tmp_path / "export").keys() == {"export-state.json"}
    done = export(log_url, tmp_path / "export")
    assert done.returncode == 0, done.stderr
    assert "manifest.json" in files(tmp_path / "export")


def test_parquet_without_pyarrow_is_one_line(log_url: str, tmp_path: Path) -> None:
    out = tmp_path / "export"
    command = [sys.executable, "-c", NO_PYARROW, *arguments(log_url, out), "--format", "parquet"]
    variables = clean_environment(**data_dir(out))
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=variables, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: Parquet needs the package pyarrow. Install it with: pip install 'turnlog[parquet]'\n"
    )
    assert not (tmp_path / "export").exists()
