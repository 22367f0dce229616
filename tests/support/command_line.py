"""The `turnlog` command in the process of the tests.

The start of a process takes most of the time of a short command. `RunningCommand` and `on_terminal` start one.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from cli.main import turnlog

OURS = ("TURNLOG_", "PG", "COLUMNS", "NO_COLOR")
"""The beginnings of the variables that change what commands do."""


class Finished(NamedTuple):
    """A command that has ended, with the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def clean_environment(**changes: str) -> dict[str, str]:
    """Return the environment without what changes commands, for a process."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(OURS)}, **changes}


def run_here(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end, in a clean environment with some variables.

    Raises:
        Exception: the command has raised it, and would have ended with a traceback.
    """
    without: dict[str, str | None] = {name: None for name in os.environ if name.startswith(OURS)}
    done = CliRunner(env={**without, **(environment or {})}).invoke(turnlog, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Finished(done.exit_code, done.stdout, done.stderr)
