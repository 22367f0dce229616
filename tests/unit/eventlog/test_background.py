"""Background tasks run again after errors, log each cause once, and end on close."""

import asyncio
from contextvars import ContextVar

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
async def test_an_outage_in_which_attempts_fail_slowly_and_in_two_ways_is_logged_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Take 3 s to fail, as with a frozen server, then be refused at once."""
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) % 2:
            await asyncio.sleep(3)
            raise StoreUnavailableError("The store does not answer.") from TimeoutError("no connection within 3 s")
        if len(runs) < 20:
            raise StoreUnavailableError("The store does not answer.")

    background = Background()
    background.keep("work", work)
    await background.finish()
    assert len(runs) == 20
    assert [record.message for record in caplog.records] == [
        "work waits for the store: no connection within 3 s",
        "work waits for the store: The store does not answer.",
    ]


@in_fake_time
async def test_the_next_outage_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        await asyncio.sleep(60)
        if len(runs) < 3:
            raise StoreUnavailableError("The store does not answer.")

    background = Background()
    background.keep("work", work)
    await background.finish()
    assert len(caplog.records) == 2


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


@in_fake_time
async def test_work_that_is_kept_has_no_context_of_the_request_that_starts_it() -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    found: list[str] = []

    async def work() -> None:
        found.append(request.get())

    request.set("a request")
    background = Background()
    background.keep("kept", work)
    background.once("once", work)
    await background.finish()
    assert found == ["none", "a request"]
