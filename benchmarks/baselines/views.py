"""Copies of the read models' tables, to be filled by a baseline."""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from eventlog.db.statements import load_statements
from projections.catalog import find_projection
from projections.projection import view_name

VIEWS = tuple(find_projection(name) for name in ("listing", "history", "context"))

_SQL = load_statements("benchmarks.baselines", "views.sql")

Connection = psycopg.Connection[TupleRow]


class Tables(NamedTuple):
    """Tables like those of the read models, in another schema than the log's."""

    conninfo: str
    schema: str
    log: str

    def connect(self, **settings: str) -> Connection:
        """Return a connection with these tables before the log's in its search path.

        Its commits do not wait for the disk.
        """
        options = {"search_path": f"{self.schema},{self.log}", "timezone": "UTC", "synchronous_commit": "off"}
        given = " ".join(f"-c {name}={setting}" for name, setting in {**options, **settings}.items())
        return psycopg.connect(self.conninfo, autocommit=True, options=given)

    def create(self) -> None:
        """Create the tables again, without keys and indexes."""
        with self.connect(client_min_messages="warning") as connection:
            schema = sql.Identifier(self.schema)
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            for view in VIEWS:
                for definition in view.definitions():
                    connection.execute(definition)

    def indexes(self) -> list[bytes]:
        """Return the statements that create the keys and indexes."""
        return [statement for view in VIEWS for statement in view.indexes()]

    def names(self) -> dict[str, str]:
        """Return the qualified name of each table."""
        return {table: view.table(table) for view in VIEWS for table in view.tables}

    def statements(self, path: str) -> dict[str, bytes]:
        """Return the statements of a benchmark's SQL file on these tables, by name."""
        tables = {table: sql.Identifier(self.schema, name) for table, name in self.names().items()}
        return {
            name: sql.SQL(statement).format(**tables).as_bytes(None)
            for name, statement in load_statements("benchmarks.baselines", path).items()
        }

    def check(self) -> None:
        """Compare these tables with the read models of the log.

        Raises:
            AssertionError: a table has other rows.
        """
        live = {table: view_name(table, view.version) for view in VIEWS for table in view.tables}
        with self.connect() as connection:
            for table, name in self.names().items():
                ours, theirs = _print(connection, self.log, live[table]), _print(connection, self.schema, name)
                assert ours == theirs, f"{self.schema}.{name} differs from {table}: {theirs} instead of {ours}"


def _print(connection: Connection, *name: str) -> Sequence[object] | None:
    """Return a table's number of rows and a hash of all rows."""
    return connection.execute(sql.SQL(_SQL["fingerprint"]).format(table=sql.Identifier(*name))).fetchone()
