"""The deadlines of a model call. A wait ends in a result, a time-out or a cancel."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from tests.support.fake_time import in_fake_time, now
from turns.model.errors import ModelError
from turns.model.gateway_types import ModelTimeouts
from turns.model.streams.deadlines import Deadlines

NOT_BEGUN = "The model did not begin to answer in time."
BROKEN_OFF = "The model stopped in the middle of its answer."
TOO_LONG = "The model's answer took too long in all."

Limited = Callable[[], Awaitable[None]]


def clock(first_token_s: float = 60, between_tokens_s: float = 60, total_s: float = 600) -> Deadlines:
    return Deadlines(ModelTimeouts(first_token_s, between_tokens_s, total_s), now())


def cancels() -> int:
    """Return how many cancels the running task has still to obey."""
    return cast("asyncio.Task[Any]", asyncio.current_task()).cancelling()


async def at_once(result: str) -> str:
    """Return a result that a provider has already sent, without suspending."""
    return result


async def timed_out(limited: Deadlines, waiting: Awaitable[Any] | None = None) -> tuple[str, float]:
    """Return the detail of the time-out and the seconds until it came."""
    began = now()
    with pytest.raises(ModelError) as failed:
        await limited.limit(waiting or asyncio.Event().wait())
    assert failed.value.code == "model_timeout"
    return failed.value.detail, now() - began


@in_fake_time
async def test_a_wait_within_its_deadline_returns_its_result() -> None:
    assert await clock(first_token_s=60).limit(asyncio.sleep(59, "chunk")) == "chunk"


@in_fake_time
async def test_tokens_extend_the_deadline_up_to_the_limit_of_the_whole_answer() -> None:
    endless = clock(first_token_s=60, between_tokens_s=60, total_s=100)
    for _ in range(9):
        await endless.limit(asyncio.sleep(10))
        endless.received(token=True, finish=False)
    assert await timed_out(endless) == (TOO_LONG, 10)


@in_fake_time
async def test_a_model_that_sends_no_token_times_out_before_its_first_token() -> None:
    silent = clock(first_token_s=60)
    await silent.limit(asyncio.sleep(50))
    silent.received(token=False, finish=False)
    assert await timed_out(silent) == (NOT_BEGUN, 10)


@in_fake_time
async def test_a_token_during_a_wait_brings_the_deadline_forward() -> None:
    hurried = clock(first_token_s=60, between_tokens_s=0.25)
    asyncio.get_running_loop().call_later(2, lambda: hurried.received(token=True, finish=False))
    assert await timed_out(hurried) == (BROKEN_OFF, 2.25)


@in_fake_time
async def test_a_finish_shortens_the_wait() -> None:
    finished = clock()
    finished.received(token=True, finish=True)
    assert await timed_out(finished) == (BROKEN_OFF, 5)


@in_fake_time
async def test_an_error_of_the_provider_caused_by_the_time_out_is_a_time_out() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionError

    assert await timed_out(clock(), failing()) == (NOT_BEGUN, 60)


@in_fake_time
async def test_after_the_deadline_only_results_that_are_ready_are_returned() -> None:
    late = clock(first_token_s=60)
    await asyncio.sleep(61)
    assert [await late.limit(at_once(chunk)) for chunk in "abc"] == ["a", "b", "c"]
    assert cancels() == 0
    await asyncio.sleep(1)
    assert await timed_out(late) == (NOT_BEGUN, 0)


@in_fake_time
async def test_a_token_after_the_deadline_begins_a_new_deadline() -> None:
    late = clock(first_token_s=60, between_tokens_s=10)
    await asyncio.sleep(61)
    await late.limit(at_once("chunk"))
    late.received(token=True, finish=False)
    assert await timed_out(late) == (BROKEN_OFF, 10)


async def by_deadlines() -> None:
    await clock(first_token_s=60).limit(asyncio.Event().wait())


async def by_asyncio() -> None:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


async def outcome(limited: Limited) -> tuple[bool, int]:
    """Return whether a limited wait was cancelled, and how many cancels are left.

    The task can continue in either case.
    """
    with pytest.raises((TimeoutError, ModelError, asyncio.CancelledError)) as ended:
        await limited()
    await asyncio.sleep(100)
    return ended.type is asyncio.CancelledError, cancels()


@pytest.mark.parametrize("limited", [by_deadlines, by_asyncio])
@pytest.mark.parametrize("before_the_timer", [True, False])
@pytest.mark.parametrize(
    ("cancelled_after_s", "ends"), [((), (False, 0)), ((59,), (True, 1)), ((60,), (True, 1)), ((60, 60), (True, 2))]
)
@in_fake_time
async def test_a_cancel_from_outside_is_obeyed_as_by_a_timeout_of_asyncio(
    limited: Limited, before_the_timer: bool, cancelled_after_s: tuple[float, ...], ends: tuple[bool, int]
) -> None:
    began, waiting = now(), asyncio.create_task(outcome(limited))
    if not before_the_timer:  # of two timers for the same moment, the one set later fires later
        await asyncio.sleep(0)
    for seconds in cancelled_after_s:
        asyncio.get_running_loop().call_at(began + seconds, waiting.cancel)
    assert await waiting == ends
