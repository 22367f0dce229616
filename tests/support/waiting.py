"""Waiting in a test for a condition in another thread or process."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""The time after which a wait fails. No passing test depends on it."""

NEVER_S = 3600.0
"""An interval longer than any test."""


def eventually(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Poll a condition and return its first true value."""
    deadline = monotonic() + timeout_s
    pauses = pauses_s()
    while not (value := condition()):
        assert monotonic() < deadline, "the condition did not become true"
        sleep(next(pauses))
    return value


def pauses_s() -> Iterator[float]:
    """Yield the pauses of a poll, which grow from 5 ms to 100 ms in half a second."""
    # A condition may cost milliseconds of processor time, which the other tests need while this one waits.
    pause_s = 0.005
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.2, 0.1)
