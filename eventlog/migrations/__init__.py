"""The log's migrations: numbered SQL files, applied once each, in order."""

import re
from functools import cache
from importlib.resources import files

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from eventlog.db.database import Database
from eventlog.db.requirements import UnusableDatabaseError, check_database, has_table
from eventlog.db.sessions import connect
from eventlog.db.statements import load_statements

_PACKAGE = "eventlog.migrations"
_SQL = load_statements(_PACKAGE, "migrations.sql")


def migrate(conninfo: str, schema: str = "turnlog") -> list[str]:
    """Bring the log in `schema` up to date and return the names of new migrations.

    Several processes may call this at once: one applies the migrations and the others wait. A log that is up to date
    is only read, so this also works on a standby.

    Raises:
        UnusableDatabaseError: the database cannot hold a log, has that of an unreleased version, or is read-only with
            an older log.
        psycopg.Error: PostgreSQL refuses a statement or does not answer.
    """
    with connect(conninfo, schema) as connection:
        read_only = check_database(connection)
        if not _pending(connection, schema):
            return []
        if read_only:
            raise UnusableDatabaseError(f"The database is read-only, and its log in {schema} is not up to date.")
        connection.execute(_SQL["lock"], {"lock": f"{schema}:migrations"})
        # CREATE SCHEMA IF NOT EXISTS needs the right to create, even if the schema exists.
        if not connection.execute(_SQL["find_schema"], {"schema": schema}).fetchone():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(_SQL["create_migrations"])
        pending = _pending(connection, schema)
        for name in pending:
            _apply(connection, name)
        return pending


def _pending(connection: psycopg.Connection[TupleRow], schema: str) -> list[str]:
    if not has_table(connection, schema, "migrations"):
        return names()
    # With the schema's name, PostgreSQL reports missing rights on the schema and not a missing table.
    statement = sql.SQL("SELECT number, name FROM {}").format(sql.Identifier(schema, "migrations"))
    applied: dict[int, str] = dict(connection.execute(statement).fetchall())
    for name in names():
        if (other := applied.get(_number(name), name)) != name:
            raise UnusableDatabaseError(
                f"The log in {schema} is of an unreleased version of Turnlog (it has the migration {other}, "
                f"this version has {name}). Use another database, or another schema."
            )
    return [name for name in names() if _number(name) not in applied]


async def missing_migrations(database: Database) -> list[str]:
    """Return the names of the migrations that the log of an open database lacks.

    Raises:
        StoreUnavailableError: the database does not answer, or holds no log.
    """
    applied = {row[0] for row in await database.fetch("SELECT number FROM migrations")}
    return [name for name in names() if _number(name) not in applied]


@cache
def names() -> list[str]:
    """Return the names of all migrations, in order."""
    return sorted(path.name for path in files(_PACKAGE).iterdir() if re.match(r"\d+_.*\.sql$", path.name))


def _number(name: str) -> int:
    return int(name.split("_", 1)[0])


def _apply(connection: psycopg.Connection, name: str) -> None:
    with connection.transaction():
        for statement in load_statements(_PACKAGE, name).values():
            connection.execute(statement)
        connection.execute(_SQL["add_migration"], {"number": _number(name), "name": name})
