"""Execute prepared statements without a cursor, which takes twice their CPU time.

`execute_prepared` uses one function of psycopg that its documentation does not name, `psycopg.generators.execute`.
Where that is missing, it uses a cursor (docs/adr/0025-prepared-without-a-cursor.md).
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, LiteralString, cast
from weakref import WeakKeyDictionary

import psycopg.generators
from psycopg import AsyncConnection, AsyncRawCursor, errors
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

MAX_PREPARED = 100

_results: Callable[[PGconn], PQGen[list[PGresult]]] | None = getattr(psycopg.generators, "execute", None)
_prepared: "WeakKeyDictionary[AsyncConnection[TupleRow], dict[bytes, bytes]]" = WeakKeyDictionary()
"""The names of each connection's statements."""
_number = count()


async def execute_prepared(connection: AsyncConnection[TupleRow], statement: bytes, *parameters: bytes) -> PGresult:
    """Return the rows of one statement, as text.

    The parameters `$1`, `$2` and so on are text. The caller has the connection to itself, outside a transaction.
    PostgreSQL parses the statement at its first execution on the connection.

    Raises:
        psycopg.Error: PostgreSQL refuses the statement, or the connection is lost.
    """
    if _results is None:
        return await _execute_with_cursor(connection, statement, parameters)
    names = _prepared.setdefault(connection, {})
    try:
        return await _execute(connection, names, statement, parameters)
    except errors.InvalidSqlStatementName:
        # psycopg deallocates all prepared statements of a connection at times, such as after a ROLLBACK.
        names.clear()
        return await _execute(connection, names, statement, parameters)


async def _execute_with_cursor(
    connection: AsyncConnection[TupleRow], statement: bytes, parameters: Sequence[bytes]
) -> PGresult:
    cursor: AsyncRawCursor[Any] = AsyncRawCursor(connection)
    await cursor.execute(cast(LiteralString, statement.decode()), [each.decode() for each in parameters], prepare=True)
    assert cursor.pgresult is not None
    return cursor.pgresult


async def _execute(
    connection: AsyncConnection[TupleRow], names: dict[bytes, bytes], statement: bytes, parameters: Sequence[bytes]
) -> PGresult:
    name = names.get(statement) or await _prepare(connection, names, statement)
    connection.pgconn.send_query_prepared(name, parameters)
    return await _result(connection)


async def _prepare(connection: AsyncConnection[TupleRow], names: dict[bytes, bytes], statement: bytes) -> bytes:
    if len(names) == MAX_PREPARED:
        names.clear()
        await connection.execute("DEALLOCATE ALL")
    name = b"turnlog_%d" % next(_number)
    connection.pgconn.send_prepare(name, statement)
    await _result(connection)
    names[statement] = name
    return name


async def _result(connection: AsyncConnection[TupleRow]) -> PGresult:
    assert _results is not None
    (result,) = await connection.wait(_results(connection.pgconn))
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise errors.error_from_result(result)
    return result
