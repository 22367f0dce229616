"""The rows of a naive view, and their comparison with those of the database."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]


def in_order(rows: Iterable[Row]) -> list[list[tuple[str, str]]]:
    """Return rows so that equal sets of rows are equal values."""
    return sorted(sorted((key, _plain(value)) for key, value in row.items()) for row in rows)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(_sorted(value))


def _sorted(value: Any) -> Any:
    """Return `value` with sorted keys, because jsonb has its own order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def without(rows: dict[UUID, Row], leaves: Callable[[Row], bool]) -> dict[UUID, Row]:
    return {key: row for key, row in rows.items() if not leaves(row)}
