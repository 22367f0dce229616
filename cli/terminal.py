"""Write text for a terminal: escaped, cut to its width, and in colours."""

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import click

Look = Literal["plain", "bold", "quiet", "thought", "added", "begun", "ended", "failed", "called", "read", "struck"]
"""How a text looks in colours."""

# Invisible, but part of how scripts and emoji are written.
_JOINERS = "\u200c\u200d"
_ESCAPED_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
_CANDIDATES = re.compile(r"[^ -~]")
_STYLES: Mapping[Look, Mapping[str, Any]] = {
    "plain": {},
    "bold": {"bold": True},
    "quiet": {"dim": True},
    "thought": {"dim": True, "italic": True},
    "added": {"fg": "green"},
    "begun": {"fg": "cyan"},
    "ended": {"fg": "yellow"},
    "failed": {"fg": "red"},
    "called": {"fg": "magenta"},
    "read": {"fg": "blue"},
    "struck": {"dim": True, "strikethrough": True},
}


class Span(NamedTuple):
    """A part of a line."""

    text: str
    look: Look = "plain"


def visible(text: str, kept: str = "") -> str:
    r"""Return text with hidden characters escaped, as in \x1b or \u202e.

    These are control, format and bidi characters and line breaks, but for those in `kept`.
    """
    return _CANDIDATES.sub(lambda found: found[0] if found[0] in kept else _visible(found[0]), text)


def visible_json(text: str) -> str:
    r"""Return the same JSON with each such character as a JSON escape."""
    return _CANDIDATES.sub(lambda found: _json_escape(found[0]) if _is_hidden(found[0]) else found[0], text)


def width() -> int | None:
    """Return the number of columns of the terminal, None if stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def has_colours() -> bool:
    """Return whether stdout is a terminal that shows colours, and the user wants them.

    NO_COLOR with any value turns them off (https://no-color.org).
    """
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def cells(text: str) -> int:
    """Return the number of terminal cells that text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, most_cells: int) -> str:
    """Return text of at most so many terminal cells. An ellipsis marks a cut."""
    from rich.cells import set_cell_size

    return text if cells(text) <= most_cells else f"{set_cell_size(text, max(most_cells - 1, 0)).rstrip()}…"


def painted(text: str, look: Look, *, colours: bool) -> str:
    """Return text with the escape sequences of a look, or unchanged."""
    return click.style(text, **_STYLES[look]) if colours and text and _STYLES[look] else text


def composed(spans: Sequence[Span], columns: int | None, *, colours: bool) -> str:
    """Return a line of spans, which is cut to a number of columns."""
    line = "".join(span.text for span in spans)
    shown = line if columns is None else cut(line, columns)
    parts: list[str] = []
    for span in spans:
        # Escape sequences take no cells, so they are added after the cut.
        parts.append(painted(shown[: len(span.text)], span.look, colours=colours))
        shown = shown[len(span.text) :]
    return "".join(parts)


@lru_cache(maxsize=4096)
def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _JOINERS


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode() if _is_hidden(character) else character


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
