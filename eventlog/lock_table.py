"""Locks by key: tasks with the same key wait for each other."""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class LockTable(Generic[Key]):
    """The locks of the keys in use, in this process.

    The last user of a lock removes it.
    """

    def __init__(self) -> None:
        self._held: dict[Key, _CountedLock[Key]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, key: Key) -> "_CountedLock[Key]":
        """Return the lock of a key. The caller enters it at once."""
        lock = self._held.get(key)
        if lock is None:
            lock = self._held[key] = _CountedLock(self._held, key)
        lock.users += 1
        return lock


class _CountedLock(Generic[Key]):
    """A lock, and the number of tasks that hold it or wait for it."""

    # A class is faster than a generator, and this is entered for every command.

    __slots__ = ("_held", "_key", "_lock", "users")

    def __init__(self, held: "dict[Key, _CountedLock[Key]]", key: Key) -> None:
        self._held = held
        self._key = key
        self._lock = asyncio.Lock()
        self.users = 0

    async def __aenter__(self) -> None:
        try:
            await self._lock.acquire()
        except asyncio.CancelledError:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self.users -= 1
        if not self.users:
            del self._held[self._key]
