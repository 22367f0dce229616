"""Keys for the API: `tlk_` and 32 random bytes in base62."""

import re
import secrets
from hashlib import sha256
from string import ascii_lowercase, ascii_uppercase, digits

KEY_BYTES = 32
KEY_PREFIX = "tlk_"
SHOWN_CHARS = 8

_ALPHABET = digits + ascii_uppercase + ascii_lowercase
_DIGITS = 43
"""The number of base62 digits of 32 bytes."""
_FORM = re.compile(rb"tlk_[0-9A-Za-z]{43}")


def new_key() -> str:
    """Return a new random key."""
    return KEY_PREFIX + _base62(int.from_bytes(secrets.token_bytes(KEY_BYTES)))


def is_key(token: bytes) -> bool:
    """Return whether a token has the form of a key."""
    return _FORM.fullmatch(token) is not None


def digest_of(token: bytes) -> bytes:
    """Return the SHA-256 of a key or a token."""
    return sha256(token).digest()


def _base62(number: int) -> str:
    shown = ""
    for _ in range(_DIGITS):
        number, digit = divmod(number, len(_ALPHABET))
        shown = _ALPHABET[digit] + shown
    return shown
