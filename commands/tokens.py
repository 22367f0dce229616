"""Counts tokens with the o200k_base encoding, which its library contains."""

from functools import cache

import splintr

_SLICE_CHARS = 20_000


class Tokenizer:
    """Counts the tokens of plain text.

    A special token in the text counts as ordinary characters.

    All instances share one encoding. It is loaded at the first count, in about 0.2 s, or by `load`.
    """

    name = "o200k_base"

    def load(self) -> None:
        """Load the encoding now."""
        # The library loads a part of the encoding only when it meets a word that is not a single token.
        self.count("wörldzq")

    def count(self, text: str) -> int:
        """Return the number of tokens in `text`.

        For each 20,000 characters it may be one too high.
        """
        # Long texts are encoded in slices of at most 6 ms, as other threads wait while one is encoded.
        try:
            return self._count(text)
        except UnicodeEncodeError:  # a lone surrogate
            return self._count(text.encode("utf-8", "replace").decode())

    def _count(self, text: str) -> int:
        encode = _encoding(self.name).encode_ordinary
        if len(text) <= _SLICE_CHARS:
            return len(encode(text))
        return sum(len(encode(text[start : start + _SLICE_CHARS])) for start in range(0, len(text), _SLICE_CHARS))


@cache
def _encoding(name: str) -> splintr.AnyTokenizer:
    """Return the encoding with this name, which takes 40 MB once in a process."""
    return splintr.Tokenizer.from_pretrained(name)
