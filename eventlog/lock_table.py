"""Locks by key: tasks with the same key wait for each other."""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

Key = TypeVar("Key", bound=Hashable)


class LockTable(Generic[Key]):
    """The locks of the keys in use, in this process.

    A lock exists as long as a task holds it or waits for it.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, key: Key) -> asyncio.Lock:
        """Return the lock of a key. The caller enters it at once."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
