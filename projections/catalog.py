"""Which projections there are, and the installing of their tables."""

from datetime import UTC, datetime
from typing import NamedTuple

import psycopg
from psycopg import sql

from eventlog.statements import load_statements
from projections.context import ContextProjection
from projections.history import HistoryProjection
from projections.listing import ListingProjection
from projections.projection import Projection

PROJECTIONS: tuple[Projection, ...] = (ListingProjection(), HistoryProjection(), ContextProjection())

_SQL = load_statements("projections", "engine.sql")


def install(conninfo: str, schema: str = "turnlog") -> None:
    """Make the tables of every projection that has none yet, and let its bare names mean them.

    Any number of processes may call this at once; the log's own schema must be there.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT set_config('search_path', %s, false)", [schema])
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"{schema}:projections"])
        for projection in PROJECTIONS:
            if not connection.execute(_SQL["find_version"], [projection.name, projection.version]).fetchone():
                with connection.transaction():
                    _create(connection, projection)


class Status(NamedTuple):
    """How far a version of a projection has come, when it last moved, and what stopped it, if anything did."""

    name: str
    version: int
    position: int
    error: str | None
    error_position: int | None
    updated_at: datetime


def read_status(conninfo: str, schema: str = "turnlog") -> tuple[int, list[Status]]:
    """Return the position of the log's last event, and the status of every projection."""
    with psycopg.connect(conninfo, autocommit=True, options=f"-c search_path={schema}") as connection:
        head = connection.execute("SELECT position FROM head").fetchone()
        rows = connection.execute(_SQL["read_positions"]).fetchall()
    return head[0] if head else 0, [Status(*row) for row in rows]


def _create(connection: psycopg.Connection, projection: Projection) -> None:
    for definition in projection.definitions():
        connection.execute(definition)
    for table in projection.tables:
        view, versioned = sql.Identifier(table), sql.Identifier(f"{table}_v{projection.version}")
        connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT * FROM {}").format(view, versioned))
    connection.execute(_SQL["register_version"], [projection.name, projection.version, datetime.now(UTC)])
