"""Background tasks run again after errors, log each cause once, and end on close."""

import asyncio

import pytest

from eventlog.background import Background
from eventlog.errors import StoreUnavailableError
from tests.support.fake_time import in_fake_time


@in_fake_time
async def test_work_that_fails_is_run_again_until_it_returns() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 5:
            raise ValueError("not yet")

    background = Background()
    background.keep("work", work)
    await background.finish()
    assert runs == [0, 1, 2, 3, 4]


@in_fake_time
async def test_the_cause_of_repeated_failures_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 9:
            raise StoreUnavailableError("The store does not answer.") if len(runs) < 5 else ValueError("odd")

    background = Background()
    background.keep("work", work)
    await background.finish()
    assert [record.message for record in caplog.records] == [
        "work waits for the store: The store does not answer.",
        "work failed",
    ]


@in_fake_time
async def test_closing_ends_a_task_that_swallows_a_cancellation() -> None:
    swallowed: list[bool] = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(True)

    background = Background()
    background.keep("work", work)
    await asyncio.sleep(1)
    await background.close()
    assert swallowed


@in_fake_time
async def test_work_that_is_closed_before_it_began_never_runs() -> None:
    async def work() -> None:
        raise AssertionError("it was closed before")

    background = Background()
    background.once("work", work)
    await background.close()


async def test_a_task_begun_after_the_close_never_runs() -> None:
    background, done = Background(), list[int]()

    async def work() -> None:
        done.append(1)

    await background.close()
    background.once("late", work)
    background.keep("later", work)
    await background.finish()
    assert done == []
