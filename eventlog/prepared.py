"""One prepared statement on a connection of its own, without a cursor: a cursor takes 1.5 times its CPU time."""

from typing import LiteralString

from psycopg import AsyncConnection, errors
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

_NAME = b"statement"


class PreparedStatement:
    """The statement of a connection that it owns; one execution at a time. Parameters, `$1` and so on, are text."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    async def prepare(self, statement: LiteralString) -> None:
        """Let PostgreSQL parse the statement, once, before the first execution.

        Raises:
            psycopg.Error: as PostgreSQL and the connection do.
        """
        self._connection.pgconn.send_prepare(_NAME, statement.encode())
        await self._result()

    async def execute(self, *parameters: bytes) -> PGresult:
        """Return the rows of one execution, as text.

        Raises:
            psycopg.Error: as PostgreSQL and the connection do.
        """
        self._connection.pgconn.send_query_prepared(_NAME, parameters)
        return await self._result()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _result(self) -> PGresult:
        (result,) = await self._connection.wait(execute(self._connection.pgconn))
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            raise errors.error_from_result(result)
        return result
