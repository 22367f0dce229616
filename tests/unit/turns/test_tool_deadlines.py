"""Waits for tool results end at their deadline, however many there are."""

from asyncio import sleep
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.errors import TurnNotActiveError
from eventlog.errors import StoreUnavailableError
from projections.models.waits import WaitRow
from tests.support.fake_time import in_fake_time
from tests.support.fake_time import now as loop_s
from tests.support.histories.builders import BEGINNING, some_id
from turns.upkeep import tool_deadlines
from turns.upkeep.tool_deadlines import ToolDeadlines


class Log:
    """Waits in the read model, and the commands that end them.

    Each command takes 20 ms.
    """

    def __init__(self, *due_s: float) -> None:
        self.waits = {some_id(): due_s for due_s in due_s}
        self.ended: dict[UUID, float] = {}
        self.errors: list[Exception] = []

    async def due(self, until: datetime, limit: int) -> list[WaitRow]:
        waiting = [(due_s, id_) for id_, due_s in self.waits.items() if id_ not in self.ended]
        rows = [WaitRow(id_, id_, BEGINNING + timedelta(seconds=due_s)) for due_s, id_ in sorted(waiting)]
        return [row for row in rows if row.due_at <= until][:limit]

    async def execute(self, conversation_id: UUID, _: Any) -> None:
        await sleep(0.02)
        if self.errors:
            raise self.errors.pop()
        self.ended[conversation_id] = shown_s()


def shown_s(speed: float = 1.0) -> float:
    """Return the seconds that the clock of the machine shows.

    It may be slower than that of the loop.
    """
    return (loop_s() - 1024.0) * speed


async def watched(monkeypatch: pytest.MonkeyPatch, log: Any, seconds: float, speed: float = 1.0) -> None:
    monkeypatch.setattr(tool_deadlines, "now", lambda: BEGINNING + timedelta(seconds=shown_s(speed)))
    monkeypatch.setattr(tool_deadlines, "monotonic", loop_s)
    deadlines = ToolDeadlines(log, log)
    await deadlines.open()
    await sleep(seconds)
    await deadlines.close()


def check_on_time(log: Log) -> None:
    late_s = {log.ended[id_] - due_s for id_, due_s in log.waits.items()}
    assert min(late_s) >= 0 and max(late_s) < 1


@in_fake_time
async def test_each_wait_ends_at_its_deadline() -> None:
    log = Log(*(0.01 * number for number in range(300)))
    with pytest.MonkeyPatch.context() as patched:
        await watched(patched, log, 4)
    check_on_time(log)


@in_fake_time
async def test_many_waits_of_one_deadline_end_together() -> None:
    log = Log(*[0.75] * 1500)
    with pytest.MonkeyPatch.context() as patched:
        await watched(patched, log, 3)
    check_on_time(log)


@in_fake_time
async def test_a_wait_does_not_end_before_the_clock_shows_its_deadline() -> None:
    log = Log(0.4, 1.7)
    with pytest.MonkeyPatch.context() as patched:
        await watched(patched, log, 4, speed=0.9)
    assert all(0 <= ended * 0.9 - log.waits[id_] < 1 for id_, ended in log.ended.items())
    assert len(log.ended) == 2


@in_fake_time
async def test_a_store_that_is_away_is_asked_again_at_the_next_look() -> None:
    log = Log(0.4)
    log.errors = [StoreUnavailableError("Away.")]
    with pytest.MonkeyPatch.context() as patched:
        await watched(patched, log, 2)
    check_on_time(log)


@in_fake_time
async def test_a_turn_that_has_ended_is_left_out_while_its_read_model_is_behind() -> None:
    log = Log(0.4)
    log.errors = [TurnNotActiveError(some_id()) for _ in range(5)]
    with pytest.MonkeyPatch.context() as patched:
        await watched(patched, log, 25)
    assert len(log.errors) == 2
