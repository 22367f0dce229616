"""Shell commands of the docs, run with the code that is tested."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def make_program(folder: Path) -> Path:
    """Make a program `turnlog` in a folder, which runs the code of this tree."""
    program = folder / "turnlog"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli.main "$@"\n')
    program.chmod(0o755)
    return program


def run_script(script: str, folder: Path, data_dir: Path) -> str:
    """Return the output of a script of bash that runs in a folder and succeeds.

    The commands in it use a data directory. If it takes too long, all programs that it started end with it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNLOG_")}
    with subprocess.Popen(
        ["bash", "-eu", "-c", script],
        cwd=folder,
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
    return output
