"""Cutting the log into parts of about the same size, each of whole conversations, to be loaded side by side."""

from uuid import UUID

from projections.builds import SQL, Connection
from projections.rebuild.loading import Part

PART_EVENTS = 20_000
MAX_PARTS = 1000

_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


async def plan_parts(connection: Connection, target: int) -> list[Part]:
    """Return parts of about `PART_EVENTS` each; where they meet is sampled from the log, position by position."""
    number = min(max(target // PART_EVENTS, 1), MAX_PARTS)
    positions = [target * each // number for each in range(1, number)]
    cursor = await connection.execute(SQL["sample_ids"], [positions])
    firsts = [_FIRST_ID, *(row[0] for row in await cursor.fetchall())]
    lasts = [*(UUID(int=first.int - 1) for first in firsts[1:]), _LAST_ID]
    return list(map(Part, firsts, lasts))
