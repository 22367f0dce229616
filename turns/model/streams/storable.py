"""Makes a model's text and JSON storable in PostgreSQL.

Invalid input of a client is refused. Invalid output of a model is repaired.
"""

from decimal import Decimal
from math import isfinite
from typing import Any, cast

_EXPONENT_FROM = 1e16
"""From here on Python writes a float with an exponent, and jsonb writes all of its digits."""


def repaired_text(text: str) -> str:
    """Return `text` with U+FFFD for NUL and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def repaired_json(value: Any) -> Any:
    """Return a JSON value with repaired text, and with numbers as jsonb returns them.

    Raises:
        RecursionError: it is nested too deep.
    """
    if isinstance(value, str):
        return repaired_text(value)
    if isinstance(value, float) and isfinite(value):
        return int(Decimal(repr(value))) if abs(value) >= _EXPONENT_FROM else value + 0.0  # jsonb has no -0.0
    if isinstance(value, list):
        return [repaired_json(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {repaired_text(key): repaired_json(item) for key, item in cast("dict[str, Any]", value).items()}
    return value
