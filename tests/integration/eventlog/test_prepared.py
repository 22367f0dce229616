"""Prepared statements beside those that psycopg prepares and deallocates itself."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from eventlog.db import prepared
from eventlog.db.prepared import MAX_PREPARED, execute_prepared


@pytest.fixture(autouse=True, params=["without a cursor", "with a cursor"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with and without psycopg's own prepared statements."""
    if request.param == "with a cursor":
        monkeypatch.setattr(prepared, "_results", None)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    async with await AsyncConnection.connect(database_url, autocommit=True, prepare_threshold=0) as connection:
        yield connection


async def test_a_statement_returns_its_rows_as_text_each_time(connection: AsyncConnection[TupleRow]) -> None:
    for number in (b"1", b"41"):
        result = await execute_prepared(connection, b"SELECT $1::integer + 1", number)
        assert result.get_value(0, 0) == b"%d" % (int(number) + 1)


async def test_statements_that_the_connection_deallocated_are_prepared_again(
    connection: AsyncConnection[TupleRow],
) -> None:
    await execute_prepared(connection, b"SELECT 1")
    await connection.execute("SELECT 2")
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with connection.transaction():
            await connection.execute("SELECT 1 / 0")
    await connection.execute("SELECT 3")  # psycopg deallocates its prepared statements after a rollback
    assert (await execute_prepared(connection, b"SELECT 1")).get_value(0, 0) == b"1"


async def test_a_connection_keeps_a_bounded_number_of_statements(connection: AsyncConnection[TupleRow]) -> None:
    for number in range(MAX_PREPARED * 2 + 10):
        result = await execute_prepared(connection, b"SELECT %d" % number)
        assert result.get_value(0, 0) == b"%d" % number
    kept = await (await connection.execute("SELECT count(*) FROM pg_prepared_statements")).fetchone()
    assert kept is not None
    assert kept[0] <= MAX_PREPARED + 1


async def test_a_failed_statement_leaves_the_connection_usable(connection: AsyncConnection[TupleRow]) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await execute_prepared(connection, b"SELECT 1 / $1::integer", b"0")
    assert (await execute_prepared(connection, b"SELECT 1 / $1::integer", b"1")).get_value(0, 0) == b"1"
