"""The audit of docs/audit.md runs and prints what the page shows."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.servers.page_scripts import free_port, make_program, run_script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```(?:\n+```text\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
MARK = "==== the next block ===="
PAUSES = re.compile(r"^  … .* later\n", re.MULTILINE)
"""The lines by which a replay tells of long pauses, which a slow machine makes."""


def blocks_as_script(port: int, program: Path) -> str:
    """Return the blocks of the page as one script of bash, with a mark after each."""
    parts = [f'"{program}" serve --port {port} > server.txt &', "until grep -q ready server.txt; do sleep 0.1; done"]
    for language, code, _ in BLOCKS:
        here = code.replace(".venv/bin/turnlog", str(program)).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        parts.append(here if language == "sh" else f'"{sys.executable}" - <<"END"\n{here}END')
        parts.append(f"echo '{MARK}'")
    return "\n".join([*parts, "kill $!", "wait $!"])


def pattern(shown: str) -> str:
    """Return the pattern of the output that the page shows.

    `…` stands for anything in a line, and a stream may be recorded in any number of events.
    """
    escaped = re.escape(shown).replace("…", ".*")
    return re.sub(r"(?<![\d.])1[78](?!\d)", r"\\d+", escaped)


@pytest.fixture
def printed(data_dir: Path, tmp_path: Path) -> list[str]:
    """The output of each block."""
    script = blocks_as_script(free_port(), make_program(tmp_path))
    output = run_script(script, tmp_path, data_dir)
    return output.split(f"{MARK}\n")


def test_the_audit_prints_what_the_page_shows(printed: list[str]) -> None:
    assert len(BLOCKS) == 11
    for (_, code, shown), output in zip(BLOCKS, printed, strict=False):
        assert re.fullmatch(pattern(shown), PAUSES.sub("", output)), (code, output)
