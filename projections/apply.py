"""Applying a batch of events: rows and positions of builds change in one step."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, LiteralString, cast

import orjson
import psycopg

from eventlog.db.connection import Connection
from eventlog.db.prepared import execute_prepared
from eventlog.db.statements import load_statements, numbered
from eventlog.mapper import Recorded
from projections import builds
from projections.builds import build_key
from projections.projection import Change, Projection

_SQL = load_statements("projections", "apply.sql")
_MOVE, _REQUIRE_MOVED = _SQL["move_positions"].encode(), _SQL["require_moved"].encode()
_PARAMETER = re.compile(rb"%\((\w+)\)s")


class PositionLostError(Exception):
    """A build is at another position or in another state than expected."""


async def apply(
    connection: Connection, projections: Sequence[Projection], state: str, before: int, batch: Sequence[Recorded]
) -> None:
    """Apply `batch` to all builds in `state` at position `before`, or to none.

    Raises:
        PositionLostError: a build is at another position or in another state. Nothing was changed.
    """
    changes = [projection.changes(projection.select(item.event for item in batch)) for projection in projections]
    parameters = {
        "position": batch[-1].position,
        "updated_at": datetime.now(UTC),
        "builds": orjson.dumps([build_key(projection) for projection in projections]).decode(),
        "before": before,
        "state": state,
    }
    try:
        await run_changes(connection, changes, Change(_MOVE, parameters), len(projections))
    except psycopg.Error as error:
        # `require_moved` divides by zero if a build has moved, and a table is missing if a switch has dropped it. The
        # projection may also be at fault. The positions tell the two apart.
        if connection.closed or await _positions(connection, projections) == {(state, before)}:
            raise
        raise PositionLostError(", ".join(map(str, projections))) from error


async def force_index_plans(connection: Connection) -> None:
    """Let all batches on this connection find rows by their keys.

    A build that catches up needs no such setting: its tables were loaded and analysed before its first batch.
    """
    # A prepared statement may be planned while a table is nearly empty. PostgreSQL would keep a plan that reads the
    # whole table as it grows.
    await connection.execute(_SQL["force_index_plans"])


async def run_changes(connection: Connection, changes: Sequence[list[Change]], move: Change, expected: int) -> None:
    """Run the changes of each projection, and `move`, all or nothing.

    `move` has to return `expected` rows.

    Raises:
        DivisionByZero: `move` returned another number of rows. Nothing was changed.
    """
    # In the usual batch each projection has at most one statement. All of them become one statement and one round trip:
    # the parts of one statement do not see each other's rows, and those of different projections need not.
    if all(len(each) <= 1 and not _has_with(each) for each in changes):
        parts = [*chain.from_iterable(changes), move]
        statement, names = _numbered(*(part.statement for part in parts))
        values = _fused_parameters(parts, expected)
        await execute_prepared(connection, statement, *(str(values[name]).encode() for name in names))
        return
    async with connection.transaction():
        for change in chain.from_iterable(changes):
            await connection.execute(change.statement, change.parameters)
        await connection.execute(_fused(move.statement), _fused_parameters([move], expected))


async def _positions(connection: Connection, projections: Sequence[Projection]) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for projection in projections:
        build = await builds.find_build(connection, projection)
        found |= {(build.state, build.position)} if build else set()
    return found


def _has_with(changes: list[Change]) -> bool:
    return any(change.statement.startswith(b"WITH") for change in changes)


@lru_cache(maxsize=256)
def _numbered(*statements: bytes) -> tuple[bytes, tuple[str, ...]]:
    # All parts come from this package's SQL files, so they are as trustworthy as literals.
    return numbered(cast(LiteralString, _fused(*statements).decode()))


@lru_cache(maxsize=256)
def _fused(*statements: bytes) -> bytes:
    """Return one statement of several, the last of which moves positions.

    The names of the parameters of the n-th statement end in `_n`.
    """
    *changes, move = (_PARAMETER.sub(rb"%%(\1_%d)s" % n, statement) for n, statement in enumerate(statements))
    parts = [b"change_%d AS (\n%s\n)" % part for part in enumerate(changes)]
    return b"WITH %s\n%s" % (b", ".join([*parts, b"moved AS (\n%s\n)" % move]), _REQUIRE_MOVED)


def _fused_parameters(parts: Sequence[Change], expected: int) -> dict[str, Any]:
    named = {f"{name}_{n}": value for n, part in enumerate(parts) for name, value in part.parameters.items()}
    return {**named, "expected": expected}
