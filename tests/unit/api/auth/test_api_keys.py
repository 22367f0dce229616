"""Keys have 32 random bytes in base62, and a form of their own."""

import re

import pytest

from api.auth import api_keys
from api.auth.api_keys import is_key, new_key


def test_a_key_is_its_prefix_and_43_base62_digits() -> None:
    made = {new_key() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch("tlk_[0-9A-Za-z]{43}", key) and is_key(key.encode()) for key in made)


@pytest.mark.parametrize(
    ("number", "digits"), [(0, "0" * 43), (2**256 - 1, None), (61, "0" * 42 + "z"), (62, "0" * 41 + "10")]
)
def test_the_digits_name_every_number_of_32_bytes(
    number: int, digits: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys.secrets, "token_bytes", lambda size: number.to_bytes(size))
    key = new_key()
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value = 0
    for digit in key.removeprefix("tlk_"):
        value = value * 62 + alphabet.index(digit)
    assert value == number
    assert digits is None or key == f"tlk_{digits}"


@pytest.mark.parametrize("token", [b"", b"tlk_", b"tlk_" + b"a" * 42, b"tlk_" + b"a" * 44, b"TLK_" + b"a" * 43])
def test_other_texts_are_no_keys(token: bytes) -> None:
    assert not is_key(token)
    assert not is_key(b"tlk_" + b"a" * 43 + b"\n")
