"""The order of titles: a key that compares by code points as people sort titles."""

import re
import unicodedata

MAX_KEY_CHARACTERS = 128
"""Longer titles with the same beginning are in the order of their ids.

An entry of an index has at most 2,704 bytes.
"""
# A noncharacter, which sorts last. It is taken out of titles.
UNTITLED = "\U0010ffff"

_IGNORED = re.compile(f"[\u0300-\u036f{UNTITLED}]")


def title_key(title: str | None) -> str:
    """Return the key of a title.

    Case, accents and surrounding spaces make no difference. Conversations without a title, or with a blank one, come
    last.
    """
    plain = _IGNORED.sub("", unicodedata.normalize("NFKD", title or ""))
    # Folding can decompose again: the Turkish dotted I becomes an i with a dot above.
    folded = _IGNORED.sub("", unicodedata.normalize("NFKD", plain.casefold()))
    return folded.strip()[:MAX_KEY_CHARACTERS].strip() or UNTITLED
