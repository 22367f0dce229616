"""The deadlines of a call: each wait gets its result, our own time-out, or the cancel of somebody else, never two."""

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
    """How many cancels the running task still has to obey."""
    return cast("asyncio.Task[Any]", asyncio.current_task()).cancelling()


async def at_once(result: str) -> str:
    """Give what a provider has sent already, without suspending."""
    return result


async def timed_out(limited: Deadlines, waiting: Awaitable[Any] | None = None) -> tuple[str, float]:
    """Return the detail of the time-out, and how many seconds it took to come."""
    began = now()
    with pytest.raises(ModelError) as failed:
        await limited.limit(waiting or asyncio.Event().wait())
    assert failed.value.code == "model_timeout"
    return failed.value.detail, now() - began


@in_fake_time
async def test_a_wait_within_its_deadline_gives_its_result() -> None:
    assert await clock(first_token_s=60).limit(asyncio.sleep(59, "chunk")) == "chunk"


@in_fake_time
async def test_tokens_put_the_deadline_off_until_the_answer_takes_too_long_in_all() -> None:
    endless = clock(first_token_s=60, between_tokens_s=60, total_s=100)
    for _ in range(9):
        await endless.limit(asyncio.sleep(10))
        endless.received(token=True, finish=False)
    assert await timed_out(endless) == (TOO_LONG, 10)


@in_fake_time
async def test_a_model_that_sends_no_token_does_not_begin() -> None:
    silent = clock(first_token_s=60)
    await silent.limit(asyncio.sleep(50))
    silent.received(token=False, finish=False)
    assert await timed_out(silent) == (NOT_BEGUN, 10)


@in_fake_time
async def test_a_token_moves_the_deadline_nearer_while_the_provider_is_waited_for() -> None:
    hurried = clock(first_token_s=60, between_tokens_s=0.25)
    asyncio.get_running_loop().call_later(2, lambda: hurried.received(token=True, finish=False))
    assert await timed_out(hurried) == (BROKEN_OFF, 2.25)


@in_fake_time
async def test_a_finish_shortens_the_wait() -> None:
    finished = clock()
    finished.received(token=True, finish=True)
    assert await timed_out(finished) == (BROKEN_OFF, 5)


@in_fake_time
async def test_a_provider_that_fails_because_it_is_timed_out_is_a_time_out() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionError

    assert await timed_out(clock(), failing()) == (NOT_BEGUN, 60)


@in_fake_time
async def test_what_is_there_already_is_taken_however_late_and_what_is_not_is_not_waited_for() -> None:
    late = clock(first_token_s=60)
    await asyncio.sleep(61)
    assert [await late.limit(at_once(chunk)) for chunk in "abc"] == ["a", "b", "c"]
    assert cancels() == 0
    await asyncio.sleep(1)
    assert await timed_out(late) == (NOT_BEGUN, 0)


@in_fake_time
async def test_a_token_after_the_deadline_begins_another_wait() -> None:
    late = clock(first_token_s=60, between_tokens_s=10)
    await asyncio.sleep(61)
    await late.limit(at_once("chunk"))
    late.received(token=True, finish=False)
    assert await timed_out(late) == (BROKEN_OFF, 10)


async def by_our_clock() -> None:
    await clock(first_token_s=60).limit(asyncio.Event().wait())


async def by_asyncio() -> None:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


async def outcome(limited: Limited) -> tuple[bool, int]:
    """Whether a limited wait ended as cancelled, and how many cancels are left; its task can go on in any case."""
    with pytest.raises((TimeoutError, ModelError, asyncio.CancelledError)) as ended:
        await limited()
    await asyncio.sleep(100)
    return ended.type is asyncio.CancelledError, cancels()


@pytest.mark.parametrize("limited", [by_our_clock, by_asyncio])
@pytest.mark.parametrize("before_the_timer", [True, False])
@pytest.mark.parametrize(
    ("cancelled_after_s", "ends"), [((), (False, 0)), ((59,), (True, 1)), ((60,), (True, 1)), ((60, 60), (True, 2))]
)
@in_fake_time
async def test_a_cancel_of_somebody_else_is_obeyed_as_by_a_timeout_of_asyncio(
    limited: Limited, before_the_timer: bool, cancelled_after_s: tuple[float, ...], ends: tuple[bool, int]
) -> None:
    began, waiting = now(), asyncio.create_task(outcome(limited))
    if not before_the_timer:  # what is set later for the same moment comes later
        await asyncio.sleep(0)
    for seconds in cancelled_after_s:
        asyncio.get_running_loop().call_at(began + seconds, waiting.cancel)
    assert await waiting == ends
