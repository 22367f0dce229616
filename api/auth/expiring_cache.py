"""A cache of bounded size whose entries end at a time."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Clock = Callable[[], float]
"""Returns the current time in seconds."""


class ExpiringCache(Generic[K, V]):
    """Values by key, each until its time. The oldest entry makes room for a new one."""

    def __init__(self, max_entries: int, clock: Clock = monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return the value of a key, None without one whose time has not come."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            del self._entries[key]
            return None
        return entry[0]

    def put(self, key: K, value: V, until: float) -> None:
        """Keep a value until a time of the clock."""
        self._entries.pop(key, None)
        self._entries[key] = (value, until)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
