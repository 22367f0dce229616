"""Counting the tokens of texts, without any download."""

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path
from time import process_time

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from commands.commands import count_tokens
from commands.tokens import Tokenizer
from domain.tools import UNANSWERED_ENCODING, UNANSWERED_TOKENS, unanswered

SPACES = ["  ", "\r\n", "\n\n ", "\t", "\u00a0", "\u2003"]
ODD = [*SPACES, "'s", "'LL", "e\u0301", "漢字", "かな", "한국어", "👨\u200d👩", "1234", "<|endoftext|>", "</p>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


@pytest.fixture(scope="module")
def reference() -> tiktoken.Encoding:
    """The tokenizer of OpenAI, with the files that litellm includes."""
    spec = importlib.util.find_spec("litellm")
    assert spec and spec.submodule_search_locations
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return tiktoken.get_encoding(Tokenizer.name)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("hello world", 2), ("Grüß Gott, wie geht's?", 9), ("日本語", 2), ("\n\n", 1)]
)
def test_the_count_is_that_of_o200k_base(tokenizer: Tokenizer, text: str, tokens: int) -> None:
    assert tokenizer.count(text) == tokens


@given(st.lists(st.text(max_size=20) | st.sampled_from(ODD)).map("".join))
def test_the_count_equals_that_of_the_tokenizer_of_openai(
    tokenizer: Tokenizer, reference: tiktoken.Encoding, text: str
) -> None:
    assert tokenizer.count(text) == len(reference.encode_ordinary(text))


def test_a_special_token_in_a_text_counts_as_plain_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("<|endoftext|>") > 1


def test_a_lone_surrogate_is_counted(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("a\ud800b") > 0


def test_the_error_result_of_an_open_call_has_its_recorded_number_of_tokens(tokenizer: Tokenizer) -> None:
    closing = unanswered(["call_1", "call_2"])
    assert asyncio.run(count_tokens(tokenizer, closing)) == 2 * UNANSWERED_TOKENS
    assert tokenizer.name == UNANSWERED_ENCODING


def test_slicing_a_long_text_changes_its_count_by_at_most_one_token_per_slice(tokenizer: Tokenizer) -> None:
    words = "word " * 50_000
    assert abs(tokenizer.count(words) - 50_000) <= 13


@pytest.mark.parametrize("text", ["a", " ", "\n"])
def test_counting_a_million_equal_characters_costs_not_much_more_than_other_text(
    tokenizer: Tokenizer, text: str
) -> None:
    def cpu_s(counted: str) -> float:
        began = process_time()
        assert tokenizer.count(counted) > 0
        return process_time() - began

    # The ratio is about half of the bound. Merging one by one would take quadratic time.
    assert cpu_s(text * 1_000_000) < 100 * cpu_s("The quick brown fox. " * 50_000)


def test_counting_does_not_import_litellm_and_opens_no_connection() -> None:
    program = """
import socket, sys
def refuse(*arguments): raise AssertionError("a connection was attempted")
socket.socket.connect = refuse
from commands.tokens import Tokenizer
assert Tokenizer().count("hello world") == 2
assert "litellm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_all_tokenizers_share_one_encoding_that_is_ready_for_any_text_once_loaded() -> None:
    program = """
from time import process_time
from commands.tokens import Tokenizer
begun = process_time()
Tokenizer().load()
loaded = process_time()
assert Tokenizer().count("zqxjwörld blörftangzq") > 2
counted = process_time()
assert counted - loaded < (loaded - begun) / 10, (loaded - begun, counted - loaded)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
