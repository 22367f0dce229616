"""What a projection is: a name, a version, tables in an SQL file, and how events change them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple
from uuid import UUID

import orjson
from pydantic_core import to_json

from domain.events import ConversationEvent
from eventlog.db.statements import load_statements, on_tables
from eventlog.mapper import UnknownEvent

Rows = dict[str, list[tuple[Any, ...]]]


class Change(NamedTuple):
    """A statement on a projection's tables, and its parameters, which PostgreSQL is given as text."""

    statement: bytes
    parameters: Sequence[str | int | UUID | datetime]


class Projection(ABC):
    """A read model, in one build of its version; its SQL file is `projections/{name}.sql`.

    `changes` and `rows` are pure functions of events of `types`, in log order; they do nothing themselves, so that
    applying the log again gives the same rows again and nothing else. What both leave in the tables is the same;
    `rows` is how a rebuild loads whole conversations at once. It is given no `StreamDelta` of a turn that has ended:
    the whole answer is in the `MessageAdded` that follows.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    tables: ClassVar[tuple[str, ...]]
    types: ClassVar[frozenset[type[ConversationEvent]]]

    def __init__(self, build: int = 1) -> None:
        self.build = build

    def __str__(self) -> str:
        return f"{self.name} version {self.version} build {self.build}"

    @abstractmethod
    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements, run in order, that bring the tables from before `events` to after them."""

    @abstractmethod
    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return the rows that `events`, all there are of some conversations, leave in empty tables.

        They come by table; a row has its table's columns in the order of their definition.
        """

    def select(self, events: Iterable[ConversationEvent]) -> list[ConversationEvent]:
        """Return those of some events that `changes` and `rows` take; a type that this release does not know is none.

        Raises:
            UnknownEventError: one of them is of a shape that this release does not know.
        """
        types = self.types
        return [event for event in events if type(event) in types or self._refuses(event)]

    def _refuses(self, event: ConversationEvent) -> Literal[False]:
        if isinstance(event, UnknownEvent) and event.known_type in self.types:
            raise event.error()
        return False

    def on_build(self, build: int) -> "Projection":
        """Return this projection on the tables of another build."""
        return type(self)(build)

    def table(self, name: str) -> str:
        """Return the name in the database of one of `tables` in this build."""
        return table_name(name, self.version, self.build)

    @cached_property
    def sql(self) -> "Statements":
        """The statements of the SQL file, on this build's tables."""
        return Statements(f"{self.name}.sql", self.tables, self.version, self.build)

    def definitions(self) -> list[bytes]:
        """Return the statements that make the tables."""
        return self.sql.starting_with("create_")

    def indexes(self) -> list[bytes]:
        """Return the statements that give the tables their keys and indexes."""
        return self.sql.starting_with("index_")


class Statements:
    """The statements of one projection's SQL file, their table names carrying version and build.

    Readers ask by the version (`listing_v1`), a view of the build that is live; the projection writes `listing_v1_2`.
    """

    def __init__(self, path: str, tables: Sequence[str], version: int, build: int) -> None:
        statements = load_statements("projections.models", path)
        built = {table: table_name(table, version, build) for table in tables}
        views = {table: view_name(table, version) for table in tables}
        self._writing = {name: on_tables(statement, **built) for name, statement in statements.items()}
        self._reading = {name: on_tables(statement, **views) for name, statement in statements.items()}

    def writing(self, name: str) -> bytes:
        """Return a statement on this build's tables."""
        return self._writing[name]

    def reading(self, name: str) -> bytes:
        """Return a statement on the views of the build that is live."""
        return self._reading[name]

    def change(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Change:
        """Return the change of a statement on this build's tables that takes all of its rows as one JSON array.

        One JSON parameter costs half of what an array for each column does, here and in PostgreSQL.
        """
        return Change(self._writing[name], [orjson.dumps(rows).decode()])

    def starting_with(self, prefix: str) -> list[bytes]:
        """Return the statements on this build's tables whose names start with `prefix`, in the file's order."""
        return [statement for name, statement in self._writing.items() if name.startswith(prefix)]


def table_name(table: str, version: int, build: int) -> str:
    """Return what one of a projection's tables is called in a build of a version."""
    return f"{table}_v{version}_{build}"


def view_name(table: str, version: int) -> str:
    """Return the view through which readers of a version see the live build of one of its tables."""
    return f"{table}_v{version}"


def json_value(text: str | None) -> orjson.Fragment | None:
    """Return JSON text as a value that goes into other JSON as it stands."""
    return None if text is None else orjson.Fragment(text)


def json_text(value: Any) -> str:
    """Return `value` as JSON text, for a column of type jsonb."""
    return to_json(value).decode()
