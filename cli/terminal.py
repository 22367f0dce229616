"""Escape control characters for a terminal, and cut lines to its width."""

import re
import shutil
import sys
import unicodedata
from functools import lru_cache

# Invisible, but part of how scripts and emoji are written.
_JOINERS = "\u200c\u200d"
_ESCAPED_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
_CANDIDATES = re.compile(r"[^ -~]")


def visible(text: str) -> str:
    r"""Return text with hidden characters escaped, as in \x1b or \u202e.

    These are control, format and bidi characters and line breaks.
    """
    return _CANDIDATES.sub(lambda found: _visible(found[0]), text)


def visible_json(text: str) -> str:
    r"""Return the same JSON with each such character as a JSON escape."""
    return _CANDIDATES.sub(lambda found: _json_escape(found[0]) if _is_hidden(found[0]) else found[0], text)


def width() -> int | None:
    """Return the number of columns of the terminal, None if stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def cut(text: str, cells: int) -> str:
    """Return text of at most so many terminal cells. An ellipsis marks a cut."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= cells else f"{set_cell_size(text, max(cells - 1, 0)).rstrip()}…"


@lru_cache(maxsize=4096)
def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED_CATEGORIES and character not in _JOINERS


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode() if _is_hidden(character) else character


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
