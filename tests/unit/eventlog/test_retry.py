"""The retry loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from eventlog.errors import StoreUnavailableError, VersionTakenError
from eventlog.retry import equal_pauses, retry, retry_blocking


def failing(times: int, error: type[Exception] = StoreUnavailableError) -> Callable[[], Coroutine[Any, Any, int]]:
    attempts = 0

    async def work() -> int:
        nonlocal attempts
        attempts += 1
        if attempts <= times:
            raise error(f"attempt {attempts}")
        return attempts

    return work


async def test_the_first_result_is_returned() -> None:
    assert await retry(failing(2), StoreUnavailableError, [0, 0, 0]) == 3


async def test_the_last_error_is_raised_when_the_pauses_run_out() -> None:
    with pytest.raises(StoreUnavailableError, match="attempt 3"):
        await retry(failing(9), StoreUnavailableError, [0, 0])


async def test_another_error_is_raised_at_once() -> None:
    with pytest.raises(VersionTakenError, match="attempt 1"):
        await retry(failing(1, VersionTakenError), StoreUnavailableError, equal_pauses(0))


async def test_one_attempt_is_made_without_time_for_a_second() -> None:
    with pytest.raises(StoreUnavailableError, match="attempt 1"):
        await retry(failing(1), StoreUnavailableError, equal_pauses(0, -1))


def test_blocking_work_is_retried_alike() -> None:
    def blocking(times: int, error: type[Exception] = StoreUnavailableError) -> Callable[[], int]:
        work = failing(times, error)
        return lambda: asyncio.run(work())

    assert retry_blocking(blocking(2), StoreUnavailableError, [0, 0]) == 3
    with pytest.raises(StoreUnavailableError, match="attempt 3"):
        retry_blocking(blocking(9), StoreUnavailableError, [0, 0])
    with pytest.raises(VersionTakenError, match="attempt 1"):
        retry_blocking(blocking(1, VersionTakenError), StoreUnavailableError, equal_pauses(0))
