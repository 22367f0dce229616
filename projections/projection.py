"""A projection: a name, a version, tables, and two functions of events."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple
from uuid import UUID

import orjson
from pydantic_core import to_json

from domain.aggregates import AggregateEvent
from eventlog.db.statements import load_statements, on_tables
from eventlog.mapper import UnknownEvent

Rows = dict[str, list[tuple[Any, ...]]]


class Change(NamedTuple):
    """A statement on a projection's tables, and its `%(named)s` parameters.

    PostgreSQL gets the parameters as text.
    """

    statement: bytes
    parameters: Mapping[str, str | int | UUID | datetime]


class Projection(ABC):
    """A read model in one build of its version.

    Its SQL file is `projections/models/{name}.sql`.

    `changes` and `rows` are pure functions of events of `types` in log order: applying the log again gives the same
    rows. Both leave the same rows in the tables. A rebuild loads whole aggregates at once with `rows`, which never
    gets a `StreamDelta` of a turn that has ended: the `MessageAdded` after it holds the whole answer.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    tables: ClassVar[tuple[str, ...]]
    types: ClassVar[frozenset[type[AggregateEvent]]]

    def __init__(self, build: int = 1) -> None:
        self.build = build

    def __str__(self) -> str:
        return f"{self.name} version {self.version} build {self.build}"

    @abstractmethod
    def changes(self, events: Sequence[Any]) -> list[Change]:
        """Return the statements that apply `events` to the tables, in order."""

    @abstractmethod
    def rows(self, events: Sequence[Any]) -> Rows:
        """Return the rows that `events` leave in empty tables, by table.

        The events are all those of `types` of some aggregates. The values of a row have the order of the columns in
        the table's definition.
        """

    def select(self, events: Iterable[AggregateEvent]) -> list[AggregateEvent]:
        """Return the events of `types`, which `changes` and `rows` take.

        Raises:
            UnknownEventError: an event of `types` has a version that this release does not know.
        """
        types = self.types
        return [event for event in events if type(event) in types or self._require_known(event)]

    def _require_known(self, event: AggregateEvent) -> Literal[False]:
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
        """Return the statements that create the tables."""
        return self.sql.starting_with("create_")

    def indexes(self) -> list[bytes]:
        """Return the statements that create the keys and indexes of the tables."""
        return self.sql.starting_with("index_")


class Statements:
    """The statements of a projection's SQL file, with the names of its tables.

    The projection writes to the tables of a build (`listing_v3_1`). Readers read the views of a version (`listing_v3`),
    which show the live build.
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
        """Return a statement on the views of the live build."""
        return self._reading[name]

    def change(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Change:
        """Return a statement on this build's tables with its rows.

        The statement gets `rows` as one JSON array, `%(rows)s`.
        """
        # One JSON parameter costs half of what an array for each column does, here and in PostgreSQL.
        return Change(self._writing[name], {"rows": orjson.dumps(rows).decode()})

    def starting_with(self, prefix: str) -> list[bytes]:
        """Return the statements whose names start with `prefix`, on this build.

        They have the order of the file.
        """
        return [statement for name, statement in self._writing.items() if name.startswith(prefix)]


def table_name(table: str, version: int, build: int) -> str:
    """Return the name of a projection's table in a build of a version."""
    return f"{table}_v{version}_{build}"


def view_name(table: str, version: int) -> str:
    """Return the name of the view of a version on a table of its live build."""
    return f"{table}_v{version}"


def json_value(text: str | None) -> orjson.Fragment | None:
    """Return JSON text as a value that orjson copies into other JSON."""
    return None if text is None else orjson.Fragment(text)


def json_text(value: Any) -> str:
    """Return `value` as JSON text, for a column of type jsonb."""
    return to_json(value).decode()
