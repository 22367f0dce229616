"""The audit of docs/audit.md runs as a whole and prints what the page shows."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```(?:\n+```text\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
MARK = "==== the next block ===="
PAUSES = re.compile(r"^  … .* later\n", re.MULTILINE)
"""The lines by which a replay tells of long pauses, which a slow machine makes."""


def script(port: int, program: Path) -> str:
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
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = tmp_path / "turnlog"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
    with subprocess.Popen(
        ["bash", "-eu", "-c", script(port, program)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "TURNLOG_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, errors = shell.communicate(timeout=4 * PATIENCE_S)
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    assert shell.returncode == 0, errors
    return output.split(f"{MARK}\n")


def test_the_audit_prints_what_the_page_shows(printed: list[str]) -> None:
    assert len(BLOCKS) == 11
    for (_, code, shown), output in zip(BLOCKS, printed, strict=False):
        assert re.fullmatch(pattern(shown), PAUSES.sub("", output)), (code, output)
