"""What a projection is, and how its tables come to be."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from pydantic_core import to_json

from domain.events import ConversationEvent
from eventlog.statements import load_statements, on_tables


class Change(NamedTuple):
    """A statement on a projection's tables, and its parameters."""

    statement: bytes
    parameters: Sequence[Any]


class Projection(Protocol):
    """A read model: its name, its version, its tables, and how a batch of events changes them.

    `changes` is a pure function of events of `types`, in log order; it does nothing itself, so that applying the log
    again gives the same rows again and nothing else. The engine runs the changes in order, in one transaction with
    the projection's position.
    """

    name: str
    version: int
    tables: tuple[str, ...]
    types: frozenset[type[ConversationEvent]]

    def definitions(self) -> list[bytes]:
        """Return the statements that create the tables of this version."""
        ...

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements that bring the tables from before `events` to after them."""
        ...


class Statements:
    """The statements of one projection's SQL file, their table names carrying the projection's version.

    Readers ask by the bare name (`listing`), a view of the version that serves; the projection writes `listing_v1`.
    """

    def __init__(self, path: str, tables: Sequence[str], version: int) -> None:
        statements = load_statements("projections", path)
        versioned = {table: f"{table}_v{version}" for table in tables}
        bare = {table: table for table in tables}
        self._writing = {name: on_tables(statement, **versioned) for name, statement in statements.items()}
        self._reading = {name: on_tables(statement, **bare) for name, statement in statements.items()}

    def writing(self, name: str) -> bytes:
        """Return a statement on this version's tables."""
        return self._writing[name]

    def reading(self, name: str) -> bytes:
        """Return a statement on the views of the version that serves."""
        return self._reading[name]

    def change(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Change:
        """Return the change of a statement on this version's tables that takes all of its rows as one JSON array.

        One JSON parameter costs half of what an array for each column does, here and in PostgreSQL.
        """
        return Change(self._writing[name], [orjson.dumps(rows).decode()])

    def definitions(self) -> list[bytes]:
        """Return the statements that make the tables, in order: those whose names start with `create_`."""
        return [statement for name, statement in self._writing.items() if name.startswith("create_")]


def json_value(text: str | None) -> orjson.Fragment | None:
    """Return JSON text as a value that goes into other JSON as it stands."""
    return None if text is None else orjson.Fragment(text)


def json_text(value: Any) -> str:
    """Return `value` as JSON text, for a statement that casts it to jsonb."""
    return to_json(value).decode()
