"""The authenticator of a server: from the credentials of a request to an identity."""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from time import time
from typing import Literal, Protocol

from api.auth.api_keys import digest_of, is_key
from api.auth.errors import UnauthenticatedError, invalid_credentials, no_credentials
from api.auth.expiring_cache import Clock
from api.auth.identity import ANONYMOUS, LOCAL, Identity
from api.auth.key_lookup import KeyLookup
from api.auth.key_store import KeyStore
from api.auth.short_tokens import ShortTokens
from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError

CHECK_INTERVAL_S = 2.0
"""The interval at which an open stream checks that its key still works."""

Mode = Literal["none", "keys", "jwt"]

_AUTHORIZATION = b"authorization"
_SCHEME = b"bearer "


class BearerVerifier(Protocol):
    """Verifies the credentials of an `Authorization` header."""

    def recent(self, digest: bytes) -> Identity | None:
        """Return the identity of credentials that were verified a moment ago."""
        ...

    def verify(self, token: bytes, digest: bytes) -> Awaitable[Identity]:
        """Return the identity that credentials with this SHA-256 grant."""
        ...


class KeyVerifier:
    """Verifies keys."""

    def __init__(self, lookup: KeyLookup) -> None:
        self.lookup = lookup

    def recent(self, digest: bytes) -> Identity | None:
        """Return the identity of a key that was looked up a moment ago."""
        return self.lookup.recent(digest)

    async def verify(self, token: bytes, digest: bytes) -> Identity:
        """Return the identity that a key grants.

        Raises:
            UnauthenticatedError: it is not a key of this log, or no longer works.
            StoreUnavailableError: the database does not answer.
        """
        identity = await self.lookup.find(digest) if is_key(token) else None
        if identity is None:
            raise invalid_credentials()
        return identity


class Authenticator:
    """Authenticates the callers of a process.

    Without a `bearer`, every caller is the local owner.
    """

    def __init__(
        self,
        short_tokens: ShortTokens,
        bearer: BearerVerifier | None = None,
        lookup: KeyLookup | None = None,
        now: Clock = time,
        check_interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self.short_tokens = short_tokens
        self._bearer = bearer
        self._lookup = lookup
        self._now = now
        self._check_interval_s = check_interval_s

    @property
    def stranger(self) -> Identity:
        """The identity of a caller who need not authenticate."""
        return LOCAL if self._bearer is None else ANONYMOUS

    async def identify(self, headers: Mapping[bytes, bytes], access_token: str | None = None) -> Identity:
        """Return the identity of the caller with these headers, or with a short token.

        Raises:
            UnauthenticatedError: there are no credentials, or they are not valid.
            IdentityProviderError: tokens cannot be verified now.
            StoreUnavailableError: the database does not answer.
        """
        if self._bearer is None:
            return LOCAL
        if access_token is not None:
            return await self.short_tokens.verify(access_token)
        token = _bearer_token(headers.get(_AUTHORIZATION))
        digest = digest_of(token)
        return self._bearer.recent(digest) or await self._bearer.verify(token, digest)

    async def wait_for_end(self, identity: Identity) -> None:
        """Return once the credentials of an identity have ended: revoked or expired."""
        while identity.expires_at is None or identity.expires_at > self._now():
            await asyncio.sleep(self._check_interval_s)
            if identity.key_id is not None and not await self._still_works(identity):
                return

    async def _still_works(self, identity: Identity) -> bool:
        try:
            return self._lookup is not None and await self._lookup.find(identity.key_id or b"") is not None
        except StoreUnavailableError:
            return True  # it is not known, and the stream itself waits for the store


def open_keys(stack: AsyncExitStack, database: Database) -> Authenticator:
    """Return an authenticator by keys."""
    store = KeyStore(database)
    lookup = KeyLookup(store)
    stack.push_async_callback(lookup.close)
    return Authenticator(_short_tokens(database, store, lookup, "keys"), KeyVerifier(lookup), lookup)


def by_tokens(database: Database, bearer: BearerVerifier | None, mode: Mode) -> Authenticator:
    """Return an authenticator by tokens, or one without authentication."""
    return Authenticator(_short_tokens(database, KeyStore(database), None, mode), bearer)


def _short_tokens(database: Database, store: KeyStore, lookup: KeyLookup | None, mode: Mode) -> ShortTokens:
    short_tokens = ShortTokens(store, lookup, mode)
    # After a failover or a restore, the secret may be another one.
    database.on_new_generation(short_tokens.forget)
    return short_tokens


def _bearer_token(authorization: bytes | None) -> bytes:
    if authorization is None:
        raise no_credentials()
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise UnauthenticatedError("The scheme of Authorization must be Bearer.")
    return authorization[len(_SCHEME) :].strip(b" ")
