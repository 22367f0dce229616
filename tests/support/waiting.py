"""Waiting in a test without a loop of its own for what another thread or process does."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a test waits before it gives up. A test that depends on it has failed already."""

NEVER_S = 3600.0
"""An interval that no test sees the end of."""


def eventually(condition: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Return the first true value of a condition that is asked again and again."""
    deadline = monotonic() + timeout_s
    while not (value := condition()):
        assert monotonic() < deadline, "it did not come true"
        sleep(0.005)
    return value
