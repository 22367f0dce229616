"""Terminal output has no characters that move the cursor or hide or reverse text."""

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.terminal import cut, visible, visible_json

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
