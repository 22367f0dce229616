"""Advisory locks, which a connection holds until it closes."""

from contextlib import suppress

import psycopg

from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements

_SQL = load_statements("projections", "advisory_locks.sql")


def leader_lock(schema: str, name: str, version: int) -> str:
    """Return the lock of the engine that applies events to a version of a projection."""
    return f"{schema}:{name}:{version}"


def rebuild_lock(schema: str, name: str) -> str:
    """Return the lock of a process that builds, verifies or switches a projection."""
    return f"{schema}:{name}:rebuild"


def starting_lock(schema: str, name: str) -> str:
    """Return the lock of a server that starts a rebuild process.

    It is held until that process has its `rebuild_lock`.
    """
    return f"{schema}:{name}:starting"


def install_lock(schema: str) -> str:
    """Return the lock of a process that creates the tables of projections."""
    return f"{schema}:projections"


async def wait_for_lock(connection: Connection, lock: str) -> None:
    """Take a lock until the connection closes, once it is free."""
    await connection.execute(_SQL["wait_for_lock"], {"lock": lock})


async def try_lock(connection: Connection, lock: str) -> bool:
    """Return whether a lock was free, and take it until the connection closes."""
    cursor = await connection.execute(_SQL["try_lock"], {"lock": lock})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def is_locked(connection: Connection, lock: str) -> bool:
    """Return whether any connection holds an advisory lock."""
    cursor = await connection.execute(_SQL["is_locked"], {"lock": lock})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def unlock_all(connection: Connection) -> None:
    """Release all advisory locks of the connection."""
    # PostgreSQL releases them only a moment after the connection was closed.
    with suppress(psycopg.Error):  # a broken connection has lost them
        await connection.execute(_SQL["unlock_all"])
