"""The retry loop: call again after a pause, until success or the last pause."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import repeat, takewhile
from math import inf
from time import monotonic
from typing import TypeVar

START_TIMEOUT_S = 15.0
"""How long a starting process waits for a database that answers late."""
START_PAUSE_S = 0.2

T = TypeVar("T")


async def retry(
    work: Callable[[], Awaitable[T]], error: type[Exception] | tuple[type[Exception], ...], pauses_s: Iterable[float]
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
        await asyncio.sleep(pause_s)


def equal_pauses(pause_s: float, retry_for_s: float = inf) -> Iterable[float]:
    """Return equal pauses that run out `retry_for_s` after this call."""
    deadline = monotonic() + retry_for_s
    return takewhile(lambda _: monotonic() <= deadline, repeat(pause_s))
