"""The key by which titles are ordered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.models.title_order import MAX_KEY_CHARACTERS, UNTITLED, title_key


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Apple", "apple"),
        ("ÉCOLE", "ecole"),
        ("e\u0301cole", "ecole"),
        ("Straße", "strasse"),
        ("İstanbul", "istanbul"),
        ("  Two  words ", "two  words"),
        ("ﬁne", "fine"),
        ("日本", "日本"),
        ("हिन्दी", "हिन्दी"),
        (None, UNTITLED),
        ("", UNTITLED),
        (" \t", UNTITLED),
        (UNTITLED, UNTITLED),
        ("x" * 200, "x" * MAX_KEY_CHARACTERS),
    ],
)
def test_case_accents_and_spaces_around_make_no_difference(title: str | None, key: str) -> None:
    assert title_key(title) == key


@given(st.text(max_size=512))
def test_a_key_fits_an_index_and_keeps_its_place(title: str) -> None:
    key = title_key(title)
    assert 1 <= len(key) <= MAX_KEY_CHARACTERS
    assert key <= title_key(None)
    assert title_key(title.upper()) == title_key(title.upper().lower())
