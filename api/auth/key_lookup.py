"""Look keys up in the database, many in one statement, and remember them briefly."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic, time
from typing import Protocol
from uuid import UUID

from api.auth.expiring_cache import Clock, ExpiringCache
from api.auth.identity import Identity
from api.auth.key_store import FoundKey
from eventlog.background import Background
from eventlog.errors import StoreUnavailableError

LIFETIME_S = 2.5
"""How long a looked-up key is remembered.

An open stream asks every 2 s. So a revoked key works for less than 5 s, also where a stream asks just before.
"""
MAX_KNOWN = 10_000
MAX_UNKNOWN = 10_000
MAX_BATCH = 1000

Wanted = bytes | UUID
"""A key to look up: the SHA-256 of the key, or its id."""


_Waiting = dict[Wanted, asyncio.Future[Identity | StoreUnavailableError | None]]


class KeyTable(Protocol):
    """The table of the keys, as `KeyStore` reads it."""

    def find(self, digests: Iterable[bytes], ids: Iterable[UUID]) -> Awaitable[list[FoundKey]]:
        """Return the keys with these hashes or ids that are not revoked."""
        ...


class KeyLookup:
    """The keys that this process has looked up, each for a short time.

    One statement at a time reads all keys that are wanted meanwhile. So a flood of unknown keys takes one connection
    and leaves the others to other requests. Known and unknown keys are remembered apart, so that the flood does not
    drive out the known ones.
    """

    def __init__(
        self, table: KeyTable, lifetime_s: float = LIFETIME_S, clock: Clock = monotonic, now: Clock = time
    ) -> None:
        self._table = table
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._now = now
        self._known: ExpiringCache[Wanted, Identity] = ExpiringCache(MAX_KNOWN, clock)
        self._unknown: ExpiringCache[Wanted, bool] = ExpiringCache(MAX_UNKNOWN, clock)
        self._waiting: _Waiting = {}
        self._background = Background()
        self._reading = False
        self._closed = False

    def recent(self, wanted: Wanted) -> Identity | None:
        """Return the identity of a key that was looked up a moment ago and still works."""
        return self._unless_expired(self._known.get(wanted))

    async def find(self, wanted: Wanted) -> Identity | None:
        """Return the identity that a key grants, None if there is no key that works.

        Raises:
            StoreUnavailableError: the database does not answer, or this server is being stopped.
        """
        if (known := self._known.get(wanted)) is not None:
            return self._unless_expired(known)
        if self._unknown.get(wanted):
            return None
        if self._closed:
            raise StoreUnavailableError("The server is being stopped.")
        waiting = self._waiting.get(wanted)
        if waiting is None:
            waiting = self._waiting[wanted] = asyncio.get_running_loop().create_future()
            if not self._reading:
                self._reading = True
                self._background.once("key-lookup", self._read_all)
        # Other requests may wait for the same key, so a request that is cancelled does not cancel the lookup.
        found = await asyncio.shield(waiting)
        if isinstance(found, StoreUnavailableError):
            raise StoreUnavailableError(str(found)) from found
        return self._unless_expired(found)

    async def close(self) -> None:
        """Stop. Lookups that wait fail, and so do later ones."""
        self._closed = True
        await self._background.close()

    def _unless_expired(self, identity: Identity | None) -> Identity | None:
        if identity is None or identity.expires_at is None or identity.expires_at > self._now():
            return identity
        return None

    async def _read_all(self) -> None:
        batch: _Waiting = {}
        try:
            while self._waiting:
                # A request that comes from now on waits for the next statement. This one may miss a revocation.
                batch = {wanted: self._waiting.pop(wanted) for wanted in list(self._waiting)[:MAX_BATCH]}
                await self._read(batch)
        finally:
            self._reading = False
            _answer({**batch, **self._waiting}, lambda _: StoreUnavailableError("The store does not answer."))
            self._waiting.clear()

    async def _read(self, batch: _Waiting) -> None:
        # A revocation that the statement misses is newer than this moment.
        until = self._clock() + self._lifetime_s
        try:
            found = await self._table.find(
                [wanted for wanted in batch if isinstance(wanted, bytes)],
                [wanted for wanted in batch if isinstance(wanted, UUID)],
            )
        except StoreUnavailableError as unavailable:
            error = unavailable
            _answer(batch, lambda _: error)
            return
        identities: dict[Wanted, Identity] = {}
        for key in found:
            identities[key.digest] = identities[key.id] = key.identity
        for wanted in batch:
            if wanted in identities:
                self._known.put(wanted, identities[wanted], until)
            else:
                self._unknown.put(wanted, True, until)
        _answer(batch, identities.get)


def _answer(batch: _Waiting, answer: Callable[[Wanted], Identity | StoreUnavailableError | None]) -> None:
    """Answer the requests that still wait for a key."""
    for wanted, waiting in batch.items():
        if not waiting.done():
            waiting.set_result(answer(wanted))
