"""The times at which streams are recorded."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_time import in_fake_time, now
from turns.frames.delta_buffer import FLUSH_CHARACTERS, FLUSH_INTERVAL_S, TICK_S, DeltaBuffer, FlushClock
from turns.frames.frames import Chunk

A_LITTLE_S = 0.000_001


class Log:
    """A log that keeps records as (first seq, texts), and their times."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, tuple[str, ...]]] = []
        self.times: list[float] = []

    async def record(self, deltas: list[dict[str, Any]]) -> None:
        self.recorded += [(fields["first_seq"], fields["chunks"]) for fields in deltas]
        self.times.append(now())


def chunk(seq: int, text: str = "word") -> Chunk:
    return Chunk(seq, 0, "text", seq - 1, text)


async def run_times(*scheduled: tuple[float, float]) -> list[float]:
    """Return when actions run.

    Each is scheduled after a number of seconds, to run within another number of seconds.
    """
    clock, ran = FlushClock(), [asyncio.get_running_loop().create_future() for _ in scheduled]

    def action(of: asyncio.Future[float]) -> Callable[[], None]:
        return lambda: of.set_result(now())

    for (after_s, within_s), one in zip(scheduled, ran, strict=True):
        asyncio.get_running_loop().call_later(after_s, clock.within, within_s, action(one))
    return await asyncio.gather(*ran)


@in_fake_time
async def test_actions_of_one_tick_run_together() -> None:
    began = TICK_S - now() % TICK_S  # the beginning of a tick
    sooner, later = await run_times((began + 0.001, 0.04), (began + 0.007, 0.04))
    assert sooner == later


@in_fake_time
async def test_actions_of_different_ticks_run_in_their_own_ticks() -> None:
    began = TICK_S - now() % TICK_S
    sooner, later = await run_times((began + 0.007, 0.04), (began + 0.009, 0.04))
    assert later - sooner == pytest.approx(TICK_S)


@pytest.mark.parametrize("within_s", [0.008, 0.011, FLUSH_INTERVAL_S, 1])
@in_fake_time
async def test_an_action_runs_at_most_a_tick_early_and_never_late(within_s: float) -> None:
    began, after_s = now(), [step * TICK_S / 10 for step in range(30)]
    for after, ran_at in zip(after_s, await run_times(*((after, within_s) for after in after_s)), strict=True):
        promised = began + after + within_s
        assert promised - TICK_S - A_LITTLE_S <= ran_at <= promised + A_LITTLE_S


@in_fake_time
async def test_an_action_that_fails_does_not_stop_the_others_of_its_tick() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    clock, ran = FlushClock(), asyncio.Event()
    clock.within(FLUSH_INTERVAL_S, lambda: 1 / 0)
    clock.within(FLUSH_INTERVAL_S, ran.set)
    async with asyncio.timeout(1):
        await ran.wait()
    assert [type(context["exception"]) for context in failures] == [ZeroDivisionError]


@in_fake_time
async def test_chunks_are_recorded_together_within_the_interval_of_the_first() -> None:
    log, began = Log(), now()
    buffer = DeltaBuffer(log.record, FlushClock())
    for seq in (1, 2, 3):
        buffer.add(chunk(seq))
        await asyncio.sleep(FLUSH_INTERVAL_S / 5)
    await asyncio.sleep(FLUSH_INTERVAL_S)
    assert log.recorded == [(1, ("word", "word", "word"))]
    assert began + FLUSH_INTERVAL_S - TICK_S - A_LITTLE_S <= log.times[0] <= began + FLUSH_INTERVAL_S + A_LITTLE_S
    assert await buffer.close() == []


@in_fake_time
async def test_chunks_with_a_pause_between_them_are_recorded_separately() -> None:
    log = Log()
    buffer = DeltaBuffer(log.record, FlushClock())
    for seq in (1, 2):
        buffer.add(chunk(seq))
        await asyncio.sleep(1)
    assert log.recorded == [(1, ("word",)), (2, ("word",))]
    assert await buffer.close() == []


@in_fake_time
async def test_streams_that_share_a_clock_are_recorded_at_the_same_moment() -> None:
    log, clock = Log(), FlushClock()
    buffers = [DeltaBuffer(log.record, clock) for _ in range(2)]
    await asyncio.sleep(TICK_S - now() % TICK_S)
    for buffer in buffers:
        await asyncio.sleep(TICK_S / 4)
        buffer.add(chunk(1))
    await asyncio.sleep(1)
    assert len(log.times) == 2 and len(set(log.times)) == 1
    assert [await buffer.close() for buffer in buffers] == [[], []]


@in_fake_time
async def test_a_kibibyte_is_recorded_at_once() -> None:
    log, began = Log(), now()
    buffer = DeltaBuffer(log.record, FlushClock())
    buffer.add(chunk(1, "x" * (FLUSH_CHARACTERS - 1)))
    await asyncio.sleep(TICK_S / 8)
    assert log.times == []
    buffer.add(chunk(2, "x"))
    await asyncio.sleep(TICK_S / 8)
    assert log.times == [began + TICK_S / 8]
    assert await buffer.close() == []


@in_fake_time
async def test_close_returns_the_chunks_that_are_not_recorded_yet() -> None:
    log = Log()
    buffer = DeltaBuffer(log.record, FlushClock())
    buffer.add(chunk(1, "left"))
    buffer.add(chunk(2, "over"))
    left = await buffer.close()
    assert [(fields["first_seq"], fields["chunks"]) for fields in left] == [(1, ("left", "over"))]
    assert log.recorded == []
