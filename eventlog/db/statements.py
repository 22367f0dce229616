"""Named SQL, in files beside the code that owns it.

Each statement has a name, by which Python loads it, and a sentence.

-- name: read_head
-- The position of the last event, 0 for an empty log.
SELECT position FROM head
"""

import re
from importlib.resources import files
from typing import LiteralString, cast

from psycopg import sql

_NAMED = re.compile(r"%(?:\((\w+)\)s|%)")
_STATEMENT = re.compile(r"^-- name: (\w+)\n(?:-- .*\n)+", re.MULTILINE)


def load_statements(package: str, path: str) -> dict[str, LiteralString]:
    """Return the statements of a package's `.sql` file by name, in its order."""
    text = files(package).joinpath(path).read_text(encoding="utf-8")
    parts = _STATEMENT.split(text)[1:]
    bodies = (body.strip().removesuffix(";") for body in parts[1::2])
    # The file is part of this package, so its text is as trustworthy as a literal.
    return {name: cast(LiteralString, body) for name, body in zip(parts[::2], bodies, strict=True)}


def on_tables(statement: LiteralString, **tables: str) -> bytes:
    """Return a statement with each `{name}` replaced by a quoted table name."""
    return sql.SQL(statement).format(**{name: sql.Identifier(table) for name, table in tables.items()}).as_bytes(None)


def numbered(statement: LiteralString) -> tuple[bytes, tuple[str, ...]]:
    """Return `statement` with `$1`, `$2` … for its `%(named)s`, and their names.

    The names are in the order of the numbers. PostgreSQL itself takes numbers only, so a statement that it prepares
    without psycopg's cursor needs them.
    """
    names = tuple(dict.fromkeys(name for name in _NAMED.findall(statement) if name))
    text = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}" if found[1] else "%", statement)
    return text.encode(), names
