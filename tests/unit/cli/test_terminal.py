"""Terminal output has no characters that move the cursor or hide or reverse text."""

import json
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.terminal import Span, cells, composed, cut, has_colours, painted, visible, visible_json

HIDDEN = ["\x00", "\x07", "\x1b", "\r", "\n", "\t", "\x7f", "\x9b", "\u061c", "\u200e", "\u202e", "\u2066", "\u2028"]
SHOWN = ["a", "é", "漢", "👨\u200d👩\u200d👧", "❤\ufe0f", "क्\u200cष", "\\", '"', " ", "\u00a0"]


@pytest.mark.parametrize("character", HIDDEN)
def test_control_and_bidi_characters_are_shown_as_escapes(character: str) -> None:
    assert visible(f"a{character}b") == f"a{character.encode('unicode_escape').decode()}b"
    assert visible(character).isascii()


@pytest.mark.parametrize("text", SHOWN)
def test_visible_text_is_unchanged(text: str) -> None:
    assert visible(text) == text
    assert visible_json(text) == text


@given(text=st.text())
def test_escaped_json_has_the_same_meaning(text: str) -> None:
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def test_joiners_are_the_only_invisible_characters_left() -> None:
    invisible = "".join(filter(is_invisible, map(chr, range(sys.maxunicode + 1))))
    for shown in (visible(invisible), visible_json(invisible)):
        assert set(filter(is_invisible, shown)) == {"\u200c", "\u200d"}


@pytest.mark.parametrize(
    ("text", "cells", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("漢字漢字", 5, "漢字…"), ("漢字漢字", 4, "漢…"), ("", 0, "")],
)
def test_a_text_is_cut_by_its_width_in_cells(text: str, cells: int, expected: str) -> None:
    assert cut(text, cells) == expected


@given(text=st.text())
def test_only_the_kept_characters_stay_unescaped(text: str) -> None:
    assert visible(text, kept="\n").split("\n") == [visible(line) for line in text.split("\n")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", 3),
        ("漢字", 4),
        ("カナ", 4),
        ("한글", 4),
        ("🎉", 2),
        ("e\u0301", 1),
        ("क\u094d", 1),
        ("❤\ufe0f", 2),
        ("👨\u200d👩\u200d👧", 2),
        ("", 0),
    ],
)
def test_wide_characters_take_two_cells_and_combining_ones_none(text: str, expected: int) -> None:
    assert cells(text) == expected


@given(text=st.text(max_size=40), columns=st.integers(1, 50))
def test_no_cut_text_is_wider_than_asked(text: str, columns: int) -> None:
    assert cells(cut(visible(text), columns)) <= columns


SPANS = [Span("12  ", "quiet"), Span("漢字 ", "added"), Span("plain")]


def test_a_line_without_colours_is_the_text_of_its_spans() -> None:
    assert composed(SPANS, None, colours=False) == "12  漢字 plain"
    assert composed(SPANS, 8, colours=False) == "12  漢…"


@pytest.mark.parametrize("columns", [None, *range(1, 20)])
def test_colours_change_neither_the_text_of_a_line_nor_its_width(columns: int | None) -> None:
    coloured = composed(SPANS, columns, colours=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == composed(SPANS, columns, colours=False)
    assert coloured.startswith("\x1b[2m")
    assert coloured.count("\x1b[0m") == coloured.count("\x1b[") / 2


def test_an_empty_or_plain_text_gets_no_escape_sequence() -> None:
    assert painted("", "failed", colours=True) == ""
    assert painted("a", "plain", colours=True) == "a"
    assert painted("a", "failed", colours=True) == "\x1b[31ma\x1b[0m"


@pytest.mark.parametrize(
    ("environment", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_are_for_terminals_of_users_who_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert has_colours() is expected
