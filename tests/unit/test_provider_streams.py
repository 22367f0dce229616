"""The bytes of a provider's stream on their way to the OpenAI library."""

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from turns.provider_streams import _whole_lines


async def each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@given(st.lists(st.text("a\r\n", min_size=1, max_size=4).map(str.encode)))
async def test_no_piece_but_the_last_is_without_the_end_of_a_line(pieces: list[bytes]) -> None:
    whole = [piece async for piece in _whole_lines(each(pieces))]
    assert b"".join(whole) == b"".join(pieces)
    assert all(set(piece) & set(b"\r\n") for piece in whole[:-1])
