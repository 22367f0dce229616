"""The commands and the code of docs/exporting.md run and print what it shows."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import turnlog
from eventlog.migrations import migrate
from tests.support.histories.builders import Story
from tests.support.rebuilding import url
from tests.support.store import opened, rows

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "exporting.md").read_text(encoding="utf-8")
PROOF = (DOCS / "proof.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\.venv/bin/turnlog (.+?) +#", PAGE, re.MULTILINE)
BLOCK = re.compile(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", re.DOTALL)


async def record(conninfo: str) -> None:
    story = Story()
    story.ask("Hello")
    story.complete()
    async with opened(conninfo, listening=False) as store:
        await store.append(story.events)


def test_the_commands_and_the_code_of_the_page(
    database_url: str,
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNLOG_DATA_DIR", str(tmp_path / "data"))
    asyncio.run(record(database_url))
    for command in COMMANDS:
        result = CliRunner().invoke(turnlog, [*command.split(), "--database-url", url(database_url)])
        assert result.exit_code == 0, result.output
    names: dict[str, Any] = {}
    for code, _ in BLOCK.findall(PROOF)[:2]:  # the functions that the page takes from there
        exec(code, names)
    capsys.readouterr()
    for code, printed in BLOCK.findall(PAGE):
        exec(code, names)
        assert capsys.readouterr().out == printed
    migrate(empty_database_url)
    assert asyncio.run(names["imported"](empty_database_url)).events == 5
    digests = "SELECT digest FROM events ORDER BY position"
    assert rows(empty_database_url, digests) == rows(database_url, digests)


def test_the_page_has_its_commands_and_code() -> None:
    assert len(COMMANDS) == 3
    assert len(BLOCK.findall(PAGE)) == 4
