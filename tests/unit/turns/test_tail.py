"""Following a turn in the log."""

import asyncio
from typing import Any

from eventlog.clock import new_id
from tests.support.waiting import PATIENCE_S
from turns.frames.replay import TurnKey
from turns.frames.tail import TurnTail

UNUSED: Any = None


async def test_a_tail_that_is_closed_before_it_began_ends_for_its_readers() -> None:
    tail = TurnTail(UNUSED, UNUSED, UNUSED, TurnKey(new_id(), new_id(), 1))
    tail.close()
    async with asyncio.timeout(PATIENCE_S):
        assert [frames async for frames in tail.stream.follow()] == []
