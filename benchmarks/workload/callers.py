"""Concurrent and sequential callers, with their rate or the time of a call."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter

Work = Callable[[], Awaitable[object]]


class ExhaustedError(Exception):
    """Raised by work that has nothing left to do, which ends its caller."""


async def rate(seconds: float, callers: list[Work]) -> float:
    """Repeat all callers concurrently and return completions per second."""
    start = perf_counter()
    done = await asyncio.gather(*(_repeat(start + seconds, work) for work in callers))
    return sum(done) / (perf_counter() - start)


async def thread_rate(seconds: float, callers: list[Callable[[], object]]) -> float:
    """Return completions per second, with one thread per caller."""
    return await asyncio.to_thread(_thread_rate, seconds, callers)


async def call_ms(seconds: float, calls: int, work: Work) -> float:
    """Return the median milliseconds of sequential calls.

    Stop after `calls` calls or after `seconds`.
    """
    end = perf_counter() + seconds
    times: list[float] = []
    while len(times) < calls and perf_counter() < end:
        start = perf_counter()
        await work()
        times.append((perf_counter() - start) * 1000)
    return median(times)


async def _repeat(end: float, work: Work) -> int:
    done = 0
    try:
        while perf_counter() < end:
            await work()
            done += 1
    except ExhaustedError:
        pass
    return done


def _thread_rate(seconds: float, callers: list[Callable[[], object]]) -> float:
    with ThreadPoolExecutor(len(callers)) as threads:
        start = perf_counter()
        done = [threads.submit(_repeat_here, start + seconds, work) for work in callers]
        return sum(future.result() for future in done) / (perf_counter() - start)


def _repeat_here(end: float, work: Callable[[], object]) -> int:
    done = 0
    while perf_counter() < end:
        work()
        done += 1
    return done
