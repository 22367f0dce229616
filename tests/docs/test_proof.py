"""The commands and the code of docs/proof.md run and print what it shows."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import turnlog
from tests.support.histories.builders import Story
from tests.support.rebuilding import url
from tests.support.store import opened

PAGE = (Path(__file__).parents[2] / "docs" / "proof.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\.venv/bin/turnlog (.+?)(?: > (\S+))? +#", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)


async def record(conninfo: str) -> None:
    story = Story()
    story.say("Hello")
    story.ask()
    story.stream("Be", "cause")
    story.complete()
    async with opened(conninfo, listening=False) as store:
        await store.append(story.events)


def test_the_commands_and_the_code_of_the_page(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNLOG_DATA_DIR", str(tmp_path / "data"))
    asyncio.run(record(database_url))
    for command, file in COMMANDS:
        result = CliRunner().invoke(turnlog, [*command.split(), "--database-url", url(database_url)])
        assert result.exit_code == 0, result.output
        if file:
            (tmp_path / file).write_bytes(result.stdout_bytes)
    names: dict[str, Any] = {}
    for code, printed in BLOCKS:
        exec(code, names)
        assert capsys.readouterr().out == printed


def test_the_page_has_its_commands_and_code() -> None:
    assert [file for _, file in COMMANDS] == ["", "checkpoint.txt", "", "event.tlog-proof", "public-key.txt"]
    assert len(BLOCKS) == 5
