"""Value types of events and requests: text, titles, hashes, labels, JSON."""

import json
import math
from decimal import Decimal
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import to_json

MAX_TITLE_CHARACTERS = 512
MAX_METADATA_BYTES = 64 * 1024
MAX_JSON_DEPTH = 64


class Frozen(BaseModel):
    """An immutable value that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def checked_text(text: str) -> str:
    """Return `text` unchanged.

    Raises:
        ValueError: the text holds U+0000 or a lone surrogate.
    """
    # PostgreSQL cannot store either. Dropping them would change the text.
    if "\0" in text:
        raise ValueError("must not contain the NUL character (U+0000)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain a lone surrogate") from None
    return text


Text = Annotated[str, AfterValidator(checked_text)]
Title = Annotated[Text, StringConstraints(max_length=MAX_TITLE_CHARACTERS)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


def checked_json(value: Any, depth: int = 1) -> Any:
    """Return `value` unchanged.

    Raises:
        ValueError: jsonb cannot hold it: U+0000, a lone surrogate, NaN, Infinity, or more than 64 levels.
    """
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        checked_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must not contain NaN or Infinity")
    for item in _children(value):
        checked_json(item, depth + 1)
    return value


def _children(value: Any) -> list[Any]:
    """Return keys and values of an object, the items of an array, else an empty list."""
    if isinstance(value, dict):
        pairs = cast(dict[Any, Any], value)
        return [*pairs.keys(), *pairs.values()]
    return list(cast(list[Any], value)) if isinstance(value, list | tuple) else []


def at_most_64_kib(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` unchanged.

    Raises:
        ValueError: its compact JSON is longer than 64 KiB.
    """
    if len(to_json(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes of JSON")
    return value


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON."""
    # Python compares True and 1 as equal.
    return json.dumps(_normal(one), sort_keys=True) == json.dumps(_normal(other), sort_keys=True)


def _normal(value: Any) -> Any:
    """Return JSON with one form for each number."""
    # The database changes the form of some numbers: 1e16 comes back as 10000000000000000, and -0.0 as 0.0.
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in cast(dict[str, Any], value).items()}
    return [_normal(item) for item in _children(value)] if isinstance(value, list | tuple) else value


JsonObject = Annotated[dict[str, Any], AfterValidator(checked_json)]
Metadata = Annotated[JsonObject, AfterValidator(at_most_64_kib)]
