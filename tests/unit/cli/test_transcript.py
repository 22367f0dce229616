"""A transcript fits the terminal, and shows what would move its cursor."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.reading.playback import Piece
from cli.reading.transcript import INDENT, Transcript
from cli.terminal import Look, cells, visible

END = Piece("", whole=True)


def written(*pieces: Piece, columns: int | None = 20, colours: bool = False) -> str:
    """Return what a transcript writes, each piece at a time of its own."""
    parts: list[str] = []
    transcript = Transcript(parts.append, lambda: columns, colours=colours)
    for piece in pieces:
        transcript.show([piece])
    transcript.end()
    return "".join(parts)


def test_chunks_continue_the_line_and_whole_pieces_are_lines() -> None:
    pieces = (Piece("user", "bold", whole=True), Piece("Hel"), Piece("lo"), Piece("done", "quiet", whole=True))
    assert written(*pieces) == "user\n  Hello\n  done\n"


def test_an_empty_piece_ends_an_open_line_only() -> None:
    assert written(END, Piece("a"), END, END, Piece("b")) == "  a\n  b\n"


def test_a_long_text_is_broken_at_the_width_however_it_is_cut_into_chunks() -> None:
    whole = written(Piece("0123456789" * 4), columns=21)
    assert whole == "  012345678901234567\n  890123456789012345\n  6789\n"
    assert written(*map(Piece, "0123456789" * 4), columns=21) == whole


def test_the_width_is_that_of_the_terminal_at_each_time() -> None:
    parts: list[str] = []
    columns = iter([11, 7, 7, 7])
    transcript = Transcript(parts.append, lambda: next(columns), colours=False)
    for piece in (Piece("01234567"), Piece("89abcd"), Piece("0123456789", whole=True)):
        transcript.show([piece])
    transcript.end()
    assert "".join(parts) == "  01234567\n  89ab\n  cd\n  012…\n"


def test_wide_characters_are_not_cut_in_two() -> None:
    assert written(Piece("漢字漢字漢"), columns=10) == "  漢字漢\n  字漢\n"


def test_joined_and_combining_characters_stay_together() -> None:
    family = "👨\u200d👩\u200d👧"
    assert written(Piece(f"abcd{family}"), columns=9) == f"  abcd{family}\n"
    assert written(Piece("abcdefe\u0301g"), columns=10) == "  abcdefe\u0301\n  g\n"


def test_line_breaks_of_a_text_are_kept_and_tabs_are_spaces() -> None:
    assert written(Piece("one\n\ntwo\tthree")) == "  one\n\n  two    three\n"


@pytest.mark.parametrize("look", ["plain", "bold", "struck"])
def test_what_moves_the_cursor_is_shown_as_an_escape(look: Look) -> None:
    evil = "a\x1b[2J\r\x07\u202eb\u2028"
    for whole in (False, True):
        text = written(Piece(evil, look, whole=whole), columns=None)
        assert "a\\x1b[2J\\r\\x07\\u202eb\\u2028" in text
        assert visible(text, kept="\n") == text


def test_a_line_that_is_too_long_is_cut() -> None:
    assert written(Piece("0123456789" * 4, "quiet", whole=True), columns=11) == "  0123456…\n"


def test_without_a_terminal_no_line_is_broken_or_cut() -> None:
    long = "0123456789" * 40
    assert written(Piece(long), Piece(long, whole=True), columns=None) == f"  {long}\n  {long}\n"


def test_a_struck_line_is_struck_in_colours_and_marked_without() -> None:
    piece = Piece("gone", "struck", whole=True)
    assert written(piece) == "  ~~gone~~\n"
    assert written(piece, colours=True) == "  \x1b[2m\x1b[9mgone\x1b[0m\n"


@given(
    chunks=st.lists(st.text(st.characters(exclude_characters="\n"), max_size=20), max_size=10),
    columns=st.integers(12, 60),
)
def test_every_line_fits_and_no_character_is_lost(chunks: list[str], columns: int) -> None:
    text = written(*map(Piece, chunks), columns=columns)
    assert all(cells(line) <= columns for line in text.split("\n"))
    shown = visible("".join(chunks).replace("\t", "    "))
    assert "".join(line.removeprefix(INDENT) for line in text.split("\n")) == shown


@given(st.lists(st.tuples(st.text(max_size=30), st.booleans()), max_size=8))
def test_colours_change_nothing_but_colours(parts: list[tuple[str, bool]]) -> None:
    pieces = [Piece(text, "failed", whole) for text, whole in parts]
    coloured = written(*pieces, colours=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == written(*pieces)
