"""Counts tokens with the o200k_base encoding, whose files ship inside the litellm package: no network, ever."""

import importlib.util
import os
from functools import cached_property
from pathlib import Path
from typing import Protocol

_SLICE_CHARS = 100_000
_ENCODING_FILE = "fb374d419588a4632f3f557e76b4b70aebbca790"
"""tiktoken's cache name of o200k_base: the SHA-1 of its address."""


class _Encoding(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...


class Tokenizer:
    """Token counts of plain text; a special token written in the text counts as the characters it is made of.

    Loading takes about 0.3 s and happens at the first count, unless `load` was called before.
    """

    name = "o200k_base"

    def load(self) -> None:
        """Read the encoding from disk now instead of at the first count.

        Raises:
            FileNotFoundError: the installed litellm ships no o200k_base.
        """
        _ = self._encoding

    def count(self, text: str) -> int:
        """The number of tokens in `text`.

        Text is encoded in slices of 100,000 characters, which bounds the worst case; a slice's edge can add one token.
        """
        encode = self._encoding.encode_ordinary
        if len(text) <= _SLICE_CHARS:
            return len(encode(text))
        return sum(len(encode(text[start : start + _SLICE_CHARS])) for start in range(0, len(text), _SLICE_CHARS))

    @cached_property
    def _encoding(self) -> _Encoding:
        import tiktoken  # here, because loading it is not worth the start-up of a command that counts nothing

        os.environ["TIKTOKEN_CACHE_DIR"] = str(_encodings_folder())
        return tiktoken.get_encoding(self.name)


def _encodings_folder() -> Path:
    """Where litellm keeps its encodings, found without importing it.

    Raises:
        FileNotFoundError: the installed litellm ships no o200k_base; tiktoken would go and download it.
    """
    spec = importlib.util.find_spec("litellm")
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location, "litellm_core_utils", "tokenizers")
        if (folder / _ENCODING_FILE).is_file():
            return folder
    raise FileNotFoundError("o200k_base is not among the encodings of the installed litellm")
