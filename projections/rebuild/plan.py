"""The plan of a build: the log up to a target position, in parts."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from eventlog.db.connection import Connection
from eventlog.db.statements import load_statements
from projections.builds import build_key
from projections.errors import BuildInterruptedError
from projections.projection import Projection

PART_EVENTS = 20_000
MAX_PARTS = 1000

_SQL = load_statements("projections.rebuild", "plan.sql")
_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


class Part(NamedTuple):
    """The aggregates from one id to another, both included."""

    first_id: UUID
    last_id: UUID


class Plan(NamedTuple):
    """The plan of a build, with the parts that it still lacks.

    `phase` is loading, indexing or following.
    """

    phase: str
    target: int
    all_parts: int
    parts: list[Part]


async def cut_into_parts(connection: Connection, target: int) -> list[Part]:
    """Return parts of about `PART_EVENTS` events, which hold all aggregates."""
    number = min(max(target // PART_EVENTS, 1), MAX_PARTS)
    positions = [target * each // number for each in range(1, number)]
    cursor = await connection.execute(_SQL["sample_ids"], {"positions": positions})
    firsts = [_FIRST_ID, *(row[0] for row in await cursor.fetchall())]
    lasts = [*(UUID(int=first.int - 1) for first in firsts[1:]), _LAST_ID]
    return list(map(Part, firsts, lasts))


async def is_planned(connection: Connection, projection: Projection) -> bool:
    """Return whether a build has a plan."""
    cursor = await connection.execute(_SQL["read_plan"], build_key(projection))
    return await cursor.fetchone() is not None


async def write_plan(connection: Connection, projection: Projection, target: int, parts: list[Part]) -> None:
    """Plan to load a build with the log up to `target`, in `parts`."""
    key = build_key(projection)
    first_ids, last_ids = map(list, zip(*parts, strict=True))
    async with connection.transaction():
        plan = {**key, "target": target, "parts": len(parts), "resumed_at": datetime.now(UTC)}
        await connection.execute(_SQL["write_plan"], plan)
        await connection.execute(_SQL["write_parts"], {**key, "first_ids": first_ids, "last_ids": last_ids})


async def resume_plan(connection: Connection, projection: Projection) -> Plan:
    """Return the plan of a build, and note that its loading is resumed.

    Raises:
        BuildInterruptedError: the plan has gone.
    """
    key = build_key(projection)
    cursor = await connection.execute(_SQL["read_plan"], key)
    row = await cursor.fetchone()
    if row is None:
        raise BuildInterruptedError(f"The plan of {projection} has gone.")
    parts = await read_parts(connection, projection)
    await connection.execute(_SQL["resume"], {**key, "resumed_at": datetime.now(UTC), "parts": len(parts)})
    phase, target, all_parts = row
    return Plan(phase, target, all_parts, parts)


async def read_parts(connection: Connection, projection: Projection) -> list[Part]:
    """Return the parts that a build still lacks."""
    cursor = await connection.execute(_SQL["read_parts"], build_key(projection))
    return [Part(*row) for row in await cursor.fetchall()]


async def set_indexing(connection: Connection, projection: Projection) -> None:
    """Note that a build has all its rows."""
    await connection.execute(_SQL["set_indexing"], build_key(projection))
