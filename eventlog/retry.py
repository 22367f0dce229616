"""Retries: call again after a pause, until success or the last pause."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import repeat, takewhile
from math import inf
from time import monotonic, sleep
from typing import TypeVar

START_TIMEOUT_S = 15.0
"""How long a starting process waits for a database that answers late."""
START_PAUSE_S = 0.2

T = TypeVar("T")


async def retry(
    work: Callable[[], Awaitable[T]],
    error: type[Exception] | tuple[type[Exception], ...],
    pauses_s: Iterable[float],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Return the result of `work`, called again after each `error` and a pause.

    Raises:
        Exception: the `error` of the attempt after the last pause, or any other exception of an attempt.
    """
    left = iter(pauses_s)
    while True:
        try:
            return await work()
        except error:
            if (pause_s := next(left, None)) is None:
                raise
        await pause(pause_s)


def retry_blocking(
    work: Callable[[], T], error: type[Exception] | tuple[type[Exception], ...], pauses_s: Iterable[float]
) -> T:
    """Return the result of `work`, as `retry` does, and block the thread meanwhile."""

    async def attempt() -> T:
        return work()

    async def pause(pause_s: float) -> None:
        sleep(pause_s)  # noqa: ASYNC251 - it blocks the thread on purpose

    # Nothing here suspends, so the first step is the last. In `asyncio.run`, a Ctrl-C would wait until a blocking
    # connection attempt ends.
    try:
        retry(attempt, error, pauses_s, pause).send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("a blocking attempt was suspended")


def start_pauses() -> Iterable[float]:
    """Return the pauses of a start that waits for a database."""
    return equal_pauses(START_PAUSE_S, START_TIMEOUT_S)


def equal_pauses(pause_s: float, retry_for_s: float = inf) -> Iterable[float]:
    """Return equal pauses that run out `retry_for_s` after this call."""
    deadline = monotonic() + retry_for_s
    return takewhile(lambda _: monotonic() <= deadline, repeat(pause_s))
