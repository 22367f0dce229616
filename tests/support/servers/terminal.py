"""A command on a pseudo-terminal, and the resulting screen.

code, screen = on_terminal(["turnlog", "log", "tail"], columns=80)
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_TOKEN = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])", re.DOTALL)


class Seen(NamedTuple):
    """Exit code and output of a command, and the screen with scrolled-off lines."""

    code: int
    written: str
    screen: list[str]


def on_terminal(
    command: Sequence[str], columns: int = 100, rows: int = 40, environment: Mapping[str, str] | None = None
) -> Seen:
    """Run a command with one terminal as stdin, stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**(os.environ if environment is None else environment), "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    written = _all_of(ours)
    return Seen(process.wait(), written, screen(written))


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after `written`."""
    lines, row, column = [""], 0, 0
    for parameters, action, back, feed, character in _TOKEN.findall(written):
        if back:
            column = 0
        elif feed:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif action == "A":
            row = max(0, row - int(parameters or 1))
        elif action == "K":
            lines[row] = "" if parameters == "2" else lines[row][:column]
        elif character:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + character + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def _all_of(descriptor: int) -> str:
    written = b""
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                some = terminal.read(65536)
            except OSError:  # on Linux the other end was closed
                some = b""
            if not some:
                return written.decode(errors="replace")
            written += some
