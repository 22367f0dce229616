"""Applying a batch of events to builds of projections: their rows and the move of their positions in one step."""

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
import psycopg

from eventlog.mapper import Recorded
from projections.builds import SQL, Connection
from projections.projection import Change, Projection
from projections.transaction import run_together


class PositionLostError(Exception):
    """A build is not where, or not what, it was believed to be: another process moved or switched it."""


async def apply(
    connection: Connection, projections: Sequence[Projection], state: str, before: int, batch: Sequence[Recorded]
) -> None:
    """Bring builds that are in `state` from position `before` to that of the last of `batch`, all or none of them.

    Raises:
        PositionLostError: one of them is at another position or in another state; nothing was changed.
    """
    changes = [projection.changes(projection.select(item.event for item in batch)) for projection in projections]
    builds = [{"name": p.name, "version": p.version, "build": p.build} for p in projections]
    parameters = [batch[-1].position, datetime.now(UTC), orjson.dumps(builds).decode(), before, state]
    move = Change(SQL["move_positions"].encode(), parameters)
    try:
        await run_together(connection, changes, move, len(projections))
    except psycopg.Error as error:
        # A division by zero is the fence of run_together, a missing table one that was dropped after a switch. Either
        # may also be the projection's own doing.
        if connection.closed or await _where(connection, projections) == {(state, before)}:
            raise
        raise PositionLostError(", ".join(map(str, projections))) from error


async def _where(connection: Connection, projections: Sequence[Projection]) -> set[tuple[str, int]]:
    cursor = await connection.execute(SQL["read_builds"])
    applied = {(projection.name, projection.version, projection.build) for projection in projections}
    return {(row[3], row[4]) for row in await cursor.fetchall() if tuple(row[:3]) in applied}
