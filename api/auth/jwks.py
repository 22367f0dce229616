"""The keys of a JWKS server: fetched with limits, kept, and refreshed."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

import httpx

from api.auth.errors import IdentityProviderError
from api.auth.expiring_cache import Clock
from api.auth.verifying_keys import VerifyingKey, keys_of
from eventlog.background import Background

OK = 200
MAX_BYTES = 256 * 1024
TIMEOUT_S = 5.0
LIFETIME_S = 300.0
"""The age at which the keys are fetched again. Until they have come, the old ones are used."""
MAX_AGE_S = LIFETIME_S + 60.0
"""The age from which a token waits for the fetch.

After hours without a token, a key that was taken away meanwhile must not work once more.
"""
PAUSE_S = 5.0
"""The time between two fetches, so that tokens with made-up key ids do not flood the server."""

_log = logging.getLogger("uvicorn.error")


class KeySetError(Exception):
    """The server did not answer with a key set."""


class KeySet:
    """The keys at a URL. One fetch runs at a time, in a task of its own.

    The keys are fetched when a token needs them, again when they are old, and again for an unknown `kid`, but at most
    once in `pause_s`. While the server is down, the keys that were fetched before go on working.
    """

    def __init__(
        self,
        url: str,
        on_failure: Callable[[], None] = lambda: None,
        *,
        pause_s: float = PAUSE_S,
        timeout_s: float = TIMEOUT_S,
        clock: Clock = monotonic,
    ) -> None:
        """`on_failure` is called after each fetch that failed."""
        self._url = url
        self._on_failure = on_failure
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._clock = clock
        # A redirect could lead anywhere, and compressed content could grow beyond the limit at once.
        self._http = httpx.AsyncClient(timeout=timeout_s, headers={"Accept-Encoding": "identity"})
        self._keys: dict[str | None, VerifyingKey] | None = None
        self._attempted_at = float("-inf")
        self._failed = False
        self._fetching: asyncio.Event | None = None
        self._background = Background()
        self._changed: list[Callable[[], None]] = []

    def on_change(self, forget: Callable[[], None]) -> None:
        """Call `forget` when a key is no longer in the set."""
        self._changed.append(forget)

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """Return the key with this id, None if the set has none.

        Raises:
            IdentityProviderError: the server did not answer, and the key is not known from before.
        """
        known = self._keys is not None and kid in self._keys
        age_s = self._clock() - self._attempted_at
        if age_s >= (LIFETIME_S if known else self._pause_s):
            self._start_fetch()
        if self._fetching is not None and (not known or age_s >= MAX_AGE_S):
            await self._fetching.wait()
        if self._keys is not None and kid in self._keys:
            return self._keys[kid]
        if self._failed or self._keys is None:
            raise IdentityProviderError("The server that holds the keys of the tokens does not answer.")
        return None

    async def close(self) -> None:
        """Stop."""
        await self._background.close()
        await self._http.aclose()

    def _start_fetch(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.Event()
            self._background.once("fetch-jwks", self._fetch)

    async def _fetch(self) -> None:
        fetching = self._fetching
        assert fetching is not None
        before = self._keys
        try:
            self._keys = keys_of(await self._read())
            self._failed = False
        except (KeySetError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, TimeoutError) as error:
            self._failed = True
            self._on_failure()
            _log.warning("The JWKS server does not answer with a key set: %s", str(error) or type(error).__name__)
        finally:
            self._attempted_at = self._clock()
            self._fetching = None
            fetching.set()
        if before is not None and self._keys is not None and not before.items() <= self._keys.items():
            for forget in self._changed:
                forget()

    async def _read(self) -> bytes:
        content = b""
        # The client's own limit holds for each part of the answer.
        async with asyncio.timeout(self._timeout_s), self._http.stream("GET", self._url) as response:
            if response.status_code != OK:
                raise KeySetError(f"it answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise KeySetError("it answered with compressed content")
            async for piece in response.aiter_raw():
                content += piece
                if len(content) > MAX_BYTES:
                    raise KeySetError(f"it answered with more than {MAX_BYTES} bytes")
        return content
