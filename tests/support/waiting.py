"""Waiting in a test for a condition in another thread or process."""

from collections.abc import Callable
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
    while not (value := condition()):
        assert monotonic() < deadline, "the condition did not become true"
        sleep(0.005)
    return value
