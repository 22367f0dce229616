"""The page on imports shows code that works, and names all formats and roles."""

import json
import re
from pathlib import Path

import pytest

from audit.imports.fields import ROLES
from audit.imports.import_formats import FORMATS
from tests.support.exports.conversations import chatgpt, node
from tests.support.exports.files import archive

PAGE = (Path(__file__).parents[2] / "docs" / "importing.md").read_text()


def test_the_example_prints_each_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conversations = [chatgpt(node("q", None, "user", "Hello"))]
    archive(tmp_path / "export.zip", {"conversations.json": json.dumps(conversations)})
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "The sky 1 {}\n"


def test_the_page_names_every_format() -> None:
    formats = PAGE.partition("## Formats")[2].partition("##")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", formats, re.MULTILINE) == list(FORMATS)


def test_the_page_names_every_role() -> None:
    assert [role for role in ROLES if f"`{role}`" not in PAGE] == []
