"""Counting tokens: known counts, awkward text, and nothing fetched from anywhere."""

import asyncio
import subprocess
import sys
import time

import pytest

from domain.tools import UNANSWERED_ENCODING, UNANSWERED_TOKENS, unanswered
from eventlog.commands import count_tokens
from eventlog.tokens import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("hello world", 2), ("Grüß Gott, wie geht's?", 9), ("日本語", 2), ("\n\n", 1)]
)
def test_a_text_has_the_tokens_of_o200k_base(tokenizer: Tokenizer, text: str, tokens: int) -> None:
    assert tokenizer.count(text) == tokens


def test_a_special_token_in_a_text_counts_as_plain_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("<|endoftext|>") > 1


def test_a_lone_surrogate_is_counted_and_not_refused(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("a\ud800b") > 0


def test_the_error_that_closes_a_call_has_the_tokens_that_are_recorded_for_it(tokenizer: Tokenizer) -> None:
    closing = unanswered(["call_1", "call_2"])
    assert asyncio.run(count_tokens(tokenizer, closing)) == 2 * UNANSWERED_TOKENS
    assert tokenizer.name == UNANSWERED_ENCODING


def test_slicing_a_long_text_changes_its_count_by_at_most_one_token_a_slice(tokenizer: Tokenizer) -> None:
    words = "word " * 50_000
    assert abs(tokenizer.count(words) - 50_000) <= 4


@pytest.mark.parametrize("text", ["a", " ", "\n"])
def test_a_million_of_the_same_character_is_counted_in_a_moment(tokenizer: Tokenizer, text: str) -> None:
    began = time.perf_counter()
    assert tokenizer.count(text * 1_000_000) > 0
    assert time.perf_counter() - began < 5


def test_counting_imports_no_litellm_and_opens_no_connection() -> None:
    program = """
import socket, sys
def refuse(*arguments): raise AssertionError("a connection was attempted")
socket.socket.connect = refuse
from eventlog.tokens import Tokenizer
assert "tiktoken" not in sys.modules
assert Tokenizer().count("hello world") == 2
assert "litellm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_litellm_without_the_encoding_is_an_error_and_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventlog.tokens.importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError):
        Tokenizer().load()
