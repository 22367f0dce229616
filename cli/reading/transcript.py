"""A transcript that grows on a terminal or in a pipe, piece by piece."""

from collections.abc import Callable, Iterable
from functools import lru_cache

from cli.reading.playback import Piece
from cli.terminal import cells, cut, painted, visible

INDENT = "  "
TAB = "    "

_JOINER = "\u200d"


class Transcript:
    """Writes pieces as they come, without moving the cursor back.

    Lines are broken at the width of the terminal, which `width` returns whenever something is shown. It returns None
    where there is no terminal, and lines are as long as they are. Hidden characters are escaped.
    """

    def __init__(self, write: Callable[[str], None], width: Callable[[], int | None], *, colours: bool) -> None:
        self._write = write
        self._width = width
        self._columns: int | None = None
        self._colours = colours
        self._column = 0
        self._last = ""

    def show(self, pieces: Iterable[Piece]) -> None:
        """Write some pieces at once."""
        columns = self._width()
        # The last column stays free: terminals differ in the width of some emoji.
        self._columns = None if columns is None else columns - 1
        written = "".join(self._whole(piece) if piece.whole else self._continued(piece) for piece in pieces)
        if written:
            self._write(written)

    def end(self) -> None:
        """End the line, if one is open."""
        self.show([Piece("", whole=True)])

    def _whole(self, piece: Piece) -> str:
        ending = "\n" if self._column else ""
        self._column, self._last = 0, ""
        if not piece.text:
            return ending
        text = visible(piece.text)
        if piece.look == "struck" and not self._colours:
            text = f"~~{text}~~"
        indent = "" if piece.look == "bold" else INDENT
        if self._columns is not None:
            text = cut(text, max(self._columns - len(indent), 1))
        return f"{ending}{indent}{painted(text, piece.look, colours=self._colours)}\n"

    def _continued(self, piece: Piece) -> str:
        # A text keeps its line breaks. Everything else that moves the cursor is shown as an escape.
        text = visible(piece.text.replace("\t", TAB), kept="\n")
        return painted("".join(map(self._placed, text)), piece.look, colours=self._colours)

    def _placed(self, character: str) -> str:
        """Return a character with the line break and the indent that go before it."""
        last, self._last = self._last, character
        if character == "\n":
            self._column = 0
            return character
        joined = last == _JOINER
        size = 0 if joined else _cells_after(last, character)
        before = ""
        # A mark that joins or changes the character before it stays beside it.
        can_break = self._column and not joined and _cells_after("", character)
        if can_break and self._columns is not None and self._column + size > self._columns:
            self._column, before = 0, "\n"
        if self._column == 0:
            self._column, before = len(INDENT), before + INDENT
        self._column += size
        return before + character


@lru_cache(maxsize=4096)
def _cells_after(last: str, character: str) -> int:
    """Return the cells that a character takes behind another one."""
    return cells(last + character) - cells(last)
