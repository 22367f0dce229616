"""Base64 as in RFC 4648, section 4, with one spelling for each value."""

from base64 import b64decode, b64encode
from binascii import Error


def to_base64(data: bytes) -> str:
    """Return data in base64."""
    return b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Return the data of a text in base64.

    Raises:
        ValueError: the text is no base64, or not the text that `to_base64` gives.
    """
    try:
        data = b64decode(text, validate=True)
    except Error as error:
        raise ValueError("no base64") from error
    # Otherwise the unused bits at the end would allow several texts for one value.
    if to_base64(data) != text:
        raise ValueError("base64 of another form")
    return data
