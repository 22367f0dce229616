"""JSON Web Tokens: verified by fixed rules, and remembered until they end."""

from collections.abc import Awaitable
from time import time
from typing import Any, NamedTuple, Protocol

import jwt

from api.auth.errors import InvalidOwnerError, invalid_credentials
from api.auth.expiring_cache import Clock, ExpiringCache
from api.auth.identity import ROLES, Identity, check_owner_id, granted
from api.auth.verifying_keys import VerifyingKey

LEEWAY_S = 30
MAX_TOKEN_BYTES = 8192
MAX_REMEMBERED = 10_000
MAX_EXPIRY = 2**53
REMEMBERED_S = 60.0
"""How long a verified token is remembered.

After it the token's key is looked up again. So a key that has left the key set is noticed, whatever tokens come.
"""

_TIMES = ("exp", "nbf", "iat")
# The errors of PyJWT, and of the parsers below it, for tokens that are made to break them.
_MALFORMED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class TokenRules(NamedTuple):
    """The rules for the claims of a token.

    An issuer of None is not checked. With an audience of None, a token may not name one.
    """

    issuer: str | None = None
    audience: str | None = None
    owner_claim: str = "sub"
    role_claim: str = "role"


class KeySource(Protocol):
    """The keys that verify tokens."""

    def find(self, kid: str | None) -> Awaitable[VerifyingKey | None]:
        """Return the key with this id, None if there is none."""
        ...


class FixedKey:
    """A secret or a public key of the settings, for every token whatever its `kid`."""

    def __init__(self, key: VerifyingKey) -> None:
        self._key = key

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """Return the key."""
        return self._key


class JWTVerifier:
    """Verifies tokens. A verified one is remembered by its SHA-256 for a minute."""

    def __init__(self, keys: KeySource, rules: TokenRules, now: Clock = time) -> None:
        self._keys = keys
        self._rules = rules
        self._now = now
        self._verified: ExpiringCache[bytes, Identity] = ExpiringCache(MAX_REMEMBERED, now)

    def recent(self, digest: bytes) -> Identity | None:
        """Return the identity of a token that was verified a moment ago."""
        return self._verified.get(digest)

    async def verify(self, token: bytes, digest: bytes) -> Identity:
        """Return the identity that a token with this SHA-256 grants.

        Raises:
            UnauthenticatedError: the token is not valid.
            IdentityProviderError: the key of the token cannot be read now.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise invalid_credentials()
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except _MALFORMED:
            raise invalid_credentials() from None
        key = await self._keys.find(kid if isinstance(kid, str) else None)
        if key is None:
            raise invalid_credentials()
        try:
            identity = self._identity(self._claims(token, key))
        except (*_MALFORMED, InvalidOwnerError):
            raise invalid_credentials() from None
        assert identity.expires_at is not None
        self._verified.put(digest, identity, min(identity.expires_at, self._now() + REMEMBERED_S))
        return identity

    def forget(self) -> None:
        """Verify every token again, as a key may no longer be valid."""
        self._verified.clear()

    def _claims(self, token: bytes, key: VerifyingKey) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            issuer=self._rules.issuer,
            audience=self._rules.audience,
            leeway=LEEWAY_S,
            options={"require": self._required()},
        )

    def _required(self) -> list[str]:
        named = {"exp": True, "iss": self._rules.issuer is not None, "aud": self._rules.audience is not None}
        return [claim for claim, required in named.items() if required]

    def _identity(self, claims: dict[str, Any]) -> Identity:
        # PyJWT also takes a time that is a string or a boolean, which RFC 7519 does not.
        if any(type(claims[name]) not in (int, float) for name in _TIMES if name in claims):
            raise ValueError("a time is not a number")
        owner_id, role = claims.get(self._rules.owner_claim), claims.get(self._rules.role_claim, "user")
        if not isinstance(owner_id, str) or role not in ROLES:
            raise ValueError("no owner, or an unknown role")
        # The leeway is for clocks that differ, so the token works that long after its end.
        expires_at = min(int(claims["exp"]), MAX_EXPIRY) + LEEWAY_S
        return granted(role, check_owner_id(owner_id), None, expires_at)
