"""What is shown on a terminal holds no character that moves the cursor, hides text or turns it round."""

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
def test_what_can_be_seen_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert visible_json(text) == text


@given(text=st.text())
def test_json_with_escapes_says_the_same(text: str) -> None:
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def test_no_character_but_joiners_is_left_that_has_no_shape_of_its_own() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    for shown in (visible(everything), visible_json(everything)):
        left = {character for character in shown if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
        assert left == {"\u200c", "\u200d"}


@pytest.mark.parametrize(
    ("text", "cells", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("漢字漢字", 5, "漢字…"), ("漢字漢字", 4, "漢…"), ("", 0, "")],
)
def test_a_text_is_cut_by_the_cells_it_takes(text: str, cells: int, expected: str) -> None:
    assert cut(text, cells) == expected
