"""Running what several projections change, and the move of their positions, all or nothing."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, count

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from eventlog.db.prepared import execute_prepared
from eventlog.db.statements import load_statements
from projections.projection import Change

_ALL_MOVED = load_statements("projections", "builds.sql")["all_moved"].encode()


async def find_by_keys(connection: AsyncConnection[TupleRow]) -> None:
    """Have the changes of all batches on this connection find their rows by key.

    They are planned once, perhaps while a table is nearly empty; a plan that reads all of it would be kept as it grows.
    A build that follows the log needs no such thing: its tables were loaded and counted before its first batch.
    """
    settings = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin"]
    await connection.execute("SELECT set_config(name, 'off', false) FROM unnest(%s::text[]) AS name", [settings])


async def run_together(
    connection: AsyncConnection[TupleRow], changes: Sequence[list[Change]], move: Change, moving: int
) -> None:
    """Run the changes of each projection, and `move`, which is to move as many projections as are `moving`.

    Where no projection has more than one statement, which is the usual batch, all of it is one statement and one round
    trip: statements of one query do not see each other's rows, and those of different projections need not.

    Raises:
        DivisionByZero: another process moved one of the projections; nothing was changed.
    """
    if all(len(each) <= 1 and not _has_with(each) for each in changes):
        fused = [*chain.from_iterable(changes), move]
        parameters = [str(value).encode() for change in fused for value in change.parameters]
        statement = _numbered(*(change.statement for change in fused))
        await execute_prepared(connection, statement, *parameters, b"%d" % moving)
        return
    async with connection.transaction():
        for change in chain.from_iterable(changes):
            await connection.execute(change.statement, change.parameters)
        await connection.execute(_fused(move.statement), [*move.parameters, moving])


def _has_with(changes: list[Change]) -> bool:
    return any(change.statement.startswith(b"WITH") for change in changes)


@lru_cache(maxsize=256)
def _numbered(*statements: bytes) -> bytes:
    """Return the same with the placeholders of a prepared statement."""
    places = count(1)
    return re.sub(rb"%s", lambda _: b"$%d" % next(places), _fused(*statements)).replace(b"%%", b"%")


@lru_cache(maxsize=256)
def _fused(*statements: bytes) -> bytes:
    *changes, move = statements
    parts = [b"change_%d AS (\n%s\n)" % part for part in enumerate(changes)]
    return b"WITH %s\n%s" % (b", ".join([*parts, b"moved AS (\n%s\n)" % move]), _ALL_MOVED)
