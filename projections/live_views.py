"""Views of live builds: `listing_v3` for a version, `listing` for the newest."""

from typing import LiteralString, cast

from psycopg import errors, sql

from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements
from projections.errors import ViewInUseError
from projections.projection import Projection, view_name

_SQL = load_statements("projections", "live_views.sql")
_ALL = sql.SQL("*")


async def show_build(connection: Connection, projection: Projection, *, newest: bool = True) -> None:
    """Point the views of the projection's version at its build.

    `newest` points the bare names, such as `listing`, at this version too.

    Raises:
        ViewInUseError: another view depends on one that has to change its columns.
    """
    for table in projection.tables:
        view = view_name(table, projection.version)
        await _define_view(connection, view, projection.table(table))
        if newest:
            await _define_view(connection, table, view)


async def show_older_version(connection: Connection, projection: Projection, older: int | None) -> None:
    """Point the views of a version without a live build at version `older`.

    Columns that `older` lacks are NULL. Without an older version they point at the empty tables of the new build.
    """
    for table in projection.tables:
        built = projection.table(table)
        columns = await _columns(connection, built)
        source = built if older is None else view_name(table, older)
        available = set(await _columns(connection, source))
        if not available:
            source, available = built, set(columns)
        selected = [_select_item(*column, available=column in available) for column in columns]
        await _define_view(connection, view_name(table, projection.version), source, sql.SQL(", ").join(selected))


async def exists(connection: Connection, name: str) -> bool:
    """Return whether there is a table or view of this name."""
    cursor = await connection.execute(_SQL["relation_exists"], {"name": name})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _columns(connection: Connection, table: str) -> list[tuple[str, str]]:
    """Return the names and types of a table's columns."""
    cursor = await connection.execute(_SQL["read_columns"], {"table": table})
    return [(row[0], row[1]) for row in await cursor.fetchall()]


def _select_item(name: str, type_: str, *, available: bool) -> sql.Composable:
    if available:
        return sql.Identifier(name)
    # PostgreSQL itself has written the type's name, so it is as trustworthy as a literal.
    return sql.SQL("NULL::{} AS {}").format(sql.SQL(cast(LiteralString, type_)), sql.Identifier(name))


async def _define_view(connection: Connection, view: str, source: str, columns: sql.Composable = _ALL) -> None:
    names = (sql.Identifier(view), columns, sql.Identifier(source))
    create_view = sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(*names)
    try:
        async with connection.transaction():
            await connection.execute(create_view)
    except errors.InvalidTableDefinition:
        # CREATE OR REPLACE cannot remove or rename columns.
        try:
            await connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(view)))
        except errors.DependentObjectsStillExist as error:
            raise ViewInUseError(view) from error
        await connection.execute(create_view)
