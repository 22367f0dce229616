"""The small value types that events and requests share: text without NUL, JSON objects, agent labels."""

import math
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import to_json

MAX_TITLE_CHARACTERS = 512
MAX_METADATA_BYTES = 64 * 1024
MAX_JSON_DEPTH = 64


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def without_nul(text: str) -> str:
    """Return `text`; PostgreSQL's text and jsonb cannot hold U+0000, so it is refused rather than dropped."""
    if "\0" in text:
        raise ValueError("must not contain the NUL character (U+0000)")
    return text


Text = Annotated[str, AfterValidator(without_nul)]
Title = Annotated[Text, StringConstraints(max_length=MAX_TITLE_CHARACTERS)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


def storable_json(value: Any, depth: int = 1) -> Any:
    """Return `value` if jsonb can hold it: no NUL, finite numbers, at most 64 levels.

    Raises:
        ValueError: where it cannot.
    """
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        without_nul(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must not contain NaN or Infinity")
    for item in _children(value):
        storable_json(item, depth + 1)
    return value


def _children(value: Any) -> list[Any]:
    """Return the keys and values of an object, the items of an array, nothing of anything else."""
    if isinstance(value, dict):
        pairs = cast(dict[Any, Any], value)
        return [*pairs.keys(), *pairs.values()]
    return list(cast(list[Any], value)) if isinstance(value, list | tuple) else []


def at_most_64_kib(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` if its compact JSON is small enough for metadata."""
    if len(to_json(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"must be at most {MAX_METADATA_BYTES} bytes of JSON")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(storable_json)]
Metadata = Annotated[JsonObject, AfterValidator(at_most_64_kib)]
