"""The bytes of a file come through unchanged up to a fault, in pieces of any size."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.imports.checked_bytes import CheckedBytes
from audit.imports.errors import ImportFormatError
from tests.support.exports.files import InPieces

ANY_TEXT = st.text(st.characters(exclude_categories=()) | st.sampled_from('\\"ud\ud83d\ude00😀'))


def read(data: bytes, size: int = 3, max_bytes: int = 1_000_000) -> bytes:
    """Return all bytes that a parser reads."""
    source = CheckedBytes(InPieces(data, size), max_bytes)
    return b"".join(iter(lambda: source.read(64 * 1024), b""))


def refusal(data: bytes, size: int) -> tuple[bytes, str]:
    """Return the bytes before a fault, and the fault."""
    source = CheckedBytes(InPieces(data, size))
    before = b""
    try:
        while piece := source.read(64 * 1024):
            before += piece
    except ImportFormatError as error:
        return before, str(error)
    pytest.fail("The bytes have no fault.")


@given(text=ANY_TEXT, size=st.integers(1, 40), ascii_only=st.booleans())
def test_a_text_passes_if_it_is_unicode_and_only_then(text: str, size: int, ascii_only: bool) -> None:
    dumped = json.dumps([text], ensure_ascii=ascii_only)
    try:
        data = dumped.encode()
        json.loads(data)[0].encode()
    except UnicodeEncodeError:
        before, _ = refusal(dumped.encode(errors="surrogatepass"), size)
        assert dumped.encode(errors="surrogatepass").startswith(before)
    else:
        assert read(data, size) == data


@pytest.mark.parametrize("size", [1, 2, 5, 12, 100])
@pytest.mark.parametrize(
    ("data", "before", "fault"),
    [
        (rb'["a\ud83d"]', b'["a', r"the escape \ud83d is half a character (a lone surrogate)"),
        (rb'["a\uDE00b"]', b'["a', r"the escape \uDE00 is half a character (a lone surrogate)"),
        (rb'["\ud83dA"]', b'["', r"the escape \ud83d is half a character (a lone surrogate)"),
        (rb'["\ud83d\n ok ok ok"]', b'["', r"the escape \ud83d is half a character (a lone surrogate)"),
        (rb'["\\\ud83d\ud83d\ude00"]', rb'["\\', r"the escape \ud83d is half a character (a lone surrogate)"),
        (b'["a\xff"]', b'["a', "not UTF-8"),
        (b'["\xed\xa0\xbd"]', b'["', "not UTF-8"),
    ],
)
def test_the_bytes_before_a_fault_are_read_first(data: bytes, before: bytes, fault: str, size: int) -> None:
    assert refusal(data, size) == (before, fault)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_an_escaped_backslash_before_u_is_no_escape(size: int) -> None:
    data = rb'["\\ud83d", "\\\\ud83d", "\u00e9\n\ud83d\ude00"]'
    assert read(data, size) == data


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_byte_order_mark_is_no_part_of_the_text(size: int) -> None:
    assert read(b"\xef\xbb\xbf[]", size) == b"[]"
    assert read(b'["\xef\xbb\xbf"]', size) == b'["\xef\xbb\xbf"]'


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b'["\\', b'["\\ud8', '["é"'.encode()[:3], b"["])
def test_a_file_that_ends_anywhere_is_left_to_the_parser(data: bytes) -> None:
    assert read(data) == data.removeprefix(b"\xef\xbb\xbf")


def test_a_question_for_no_bytes_is_no_end() -> None:
    source = CheckedBytes(InPieces(b"[]", 100))
    assert source.read(0) == b""
    assert not source.ended
    assert (source.read(10), source.ended) == (b"[]", False)
    assert (source.read(10), source.ended) == (b"", True)


def test_each_conversation_has_its_own_limit() -> None:
    source = CheckedBytes(InPieces(b"x" * 60, 10), 25)
    for _ in range(3):
        source.next_conversation()
        assert source.read(100) + source.read(100) == b"x" * 20
    source = CheckedBytes(InPieces(b"x" * 60, 10), 25)
    assert source.read(100) + source.read(100) == b"x" * 20
    with pytest.raises(ImportFormatError, match=r"^longer than 25 bytes$"):
        source.read(100)
