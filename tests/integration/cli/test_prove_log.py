"""`turnlog log verify`, `checkpoint` and `prove` on an existing log."""

import asyncio
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from audit.proofs.signed_notes import parse_key
from cli.main import turnlog
from tests.support.audits import conversation_of, sealed, tamper
from tests.support.rebuilding import url
from tests.support.store import opened, rows


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory, in which the signing key is made."""
    monkeypatch.setenv("TURNLOG_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def log_url(prepared_url: str) -> str:
    """A log of 30 events with a sealed head after each 10."""
    asyncio.run(record_and_seal(prepared_url))
    return prepared_url


async def record_and_seal(conninfo: str) -> None:
    async with opened(conninfo, listening=False) as store:
        await sealed(store, 30, 10)


async def record(conninfo: str, events: int) -> None:
    async with opened(conninfo, listening=False) as store:
        await store.append(conversation_of(events).events)


def run(conninfo: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(turnlog, ["log", *map(str, arguments), "--database-url", url(conninfo)])


def kept_checkpoint(conninfo: str, path: Path) -> Path:
    result = run(conninfo, "checkpoint")
    assert result.exit_code == 0, result.output
    path.write_bytes(result.stdout_bytes)
    return path


def check_refused(result: Result, *words: str, code: int = 1) -> None:
    assert (result.exit_code, result.stdout) == (code, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("log: verifying")]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert [word for word in words if word not in lines[0]] == []


def test_an_unchanged_log_is_verified(log_url: str) -> None:
    result = run(log_url, "verify", "--workers", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout == "30 events (0 erased) and 3 sealed heads are as they were recorded.\n"
    assert "log: verifying 30 of 30" in result.stderr


def test_a_changed_log_exits_with_3_and_the_first_bad_position(log_url: str) -> None:
    tamper(log_url, "UPDATE events SET actor = 'user:eve' WHERE position IN (17, 23)")
    result = run(log_url, "verify")
    assert (result.exit_code, result.stdout) == (3, "Position 17: the event does not match its digest.\n")


def test_a_damaged_log_exits_with_3(log_url: str) -> None:
    tamper(log_url, "DELETE FROM sealed_tree")
    for command in (["verify"], ["checkpoint"], ["prove", "1"]):
        check_refused(run(log_url, *command), "The sealed tree is missing", code=3)


def test_a_log_is_verified_against_an_earlier_checkpoint(log_url: str, tmp_path: Path) -> None:
    kept = kept_checkpoint(log_url, tmp_path / "checkpoint")
    asyncio.run(record(log_url, 5))
    result = run(log_url, "verify", "--against", kept)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("The log only grew since the checkpoint of 30 events.\n")
    tamper(log_url, "DELETE FROM events WHERE position > 28", "UPDATE head SET position = 28")
    result = run(log_url, "verify", "--against", kept)
    assert (result.exit_code, result.stdout.startswith("Position 29: the event is missing.")) == (3, True)


def test_the_signing_key_is_made_at_its_first_use(log_url: str, data_directory: Path, tmp_path: Path) -> None:
    assert not data_directory.exists()
    first = kept_checkpoint(log_url, tmp_path / "first").read_text("utf-8")
    assert stat.S_IMODE((data_directory / "checkpoint.key").stat().st_mode) == 0o600
    assert kept_checkpoint(log_url, tmp_path / "second").read_text("utf-8") == first
    (origin,) = rows(log_url, "SELECT 'turnlog/' || log_id FROM sealed_tree")[0]
    assert first.splitlines()[:2] == [origin, "30"]
    assert parse_key(run(log_url, "checkpoint", "--show-key").stdout.strip()).name == origin


def test_a_new_signing_key_is_announced_once(log_url: str, data_directory: Path) -> None:
    announced = f"Made the signing key {data_directory / 'checkpoint.key'}. Back it up, because checkpoints need it.\n"
    assert run(log_url, "checkpoint", "--show-key").stderr == announced
    assert run(log_url, "checkpoint").stderr == ""
    other = data_directory / "other.key"
    assert f"Made the signing key {other}." in run(log_url, "prove", "1", "--key", other).stderr


def test_another_machine_verifies_with_the_public_key(log_url: str, data_directory: Path, tmp_path: Path) -> None:
    kept = kept_checkpoint(log_url, tmp_path / "checkpoint")
    public_key = run(log_url, "checkpoint", "--show-key").stdout.strip()
    (data_directory / "checkpoint.key").unlink()
    check_refused(run(log_url, "verify", "--against", kept), "checkpoint.key is missing", "--public-key")
    assert run(log_url, "verify", "--against", kept, "--public-key", public_key).exit_code == 0
    check_refused(run(log_url, "verify", "--against", kept, "--public-key", "nonsense"), "name+id+base64")


def test_a_checkpoint_of_another_key_is_refused(log_url: str, data_directory: Path, tmp_path: Path) -> None:
    kept = kept_checkpoint(log_url, tmp_path / "checkpoint")
    (data_directory / "checkpoint.key").unlink()
    kept_checkpoint(log_url, tmp_path / "other")
    check_refused(run(log_url, "verify", "--against", kept), "No known key has signed this")


def test_a_changed_checkpoint_is_refused(log_url: str, tmp_path: Path) -> None:
    kept = kept_checkpoint(log_url, tmp_path / "checkpoint")
    kept.write_bytes(kept.read_bytes().replace(b"\n30\n", b"\n20\n"))
    check_refused(run(log_url, "verify", "--against", kept), "does not belong to this text")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "no signed note"), (b"\xff\xfe", "not in UTF-8"), (b"a\n\nb\n", "no signed note")]
)
def test_a_file_that_is_no_checkpoint_is_refused(log_url: str, tmp_path: Path, content: bytes, words: str) -> None:
    kept_checkpoint(log_url, tmp_path / "checkpoint")
    (tmp_path / "file").write_bytes(content)
    check_refused(run(log_url, "verify", "--against", tmp_path / "file"), words)


def test_a_missing_file_is_named(log_url: str, tmp_path: Path) -> None:
    check_refused(run(log_url, "verify", "--against", tmp_path / "missing"), "missing cannot be read")


def test_a_checkpoint_of_another_log_is_refused(log_url: str, tmp_path: Path) -> None:
    kept = kept_checkpoint(log_url, tmp_path / "checkpoint")
    tamper(log_url, "UPDATE sealed_tree SET log_id = gen_random_uuid()")
    check_refused(run(log_url, "verify", "--against", kept), "This is a checkpoint of turnlog/")


def test_an_event_is_proven(log_url: str) -> None:
    result = run(log_url, "prove", "7")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert (lines[0], lines[2]) == ("c2sp.org/tlog-proof@v1", "index 6")
    check_refused(run(log_url, "prove", "31"), "no event at position 31")
    assert run(log_url, "prove", "0").exit_code == 2


def test_no_command_writes_to_the_log(prepared_url: str) -> None:
    asyncio.run(record(prepared_url, 12))
    before = rows(prepared_url, "SELECT * FROM sealed_tree"), rows(prepared_url, "SELECT * FROM tree_heads")
    for command in (["verify"], ["checkpoint"], ["prove", "3"]):
        assert run(prepared_url, *command).exit_code == 0
    assert (rows(prepared_url, "SELECT * FROM sealed_tree"), rows(prepared_url, "SELECT * FROM tree_heads")) == before
