"""Short tokens: what a browser puts into the address of an event stream.

EventSource cannot send headers, and addresses end up in logs and histories. So such a token lives ten minutes, opens
event streams only, and ends with the key that asked for it. It is signed with a secret of the log, so every process of
the log accepts it and no other log does.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable
from hashlib import sha256
from time import time
from typing import NamedTuple, Protocol
from uuid import UUID

import orjson

from api.auth.errors import invalid_credentials
from api.auth.expiring_cache import Clock
from api.auth.identity import Identity
from api.auth.key_lookup import KeyLookup

LIFETIME_S = 600
MAX_TOKEN_CHARS = 4096


class SecretStore(Protocol):
    """The place of the secret, as `KeyStore` keeps it."""

    def token_secret(self) -> Awaitable[bytes]:
        """Return the secret that signs short tokens, and make it at the first use."""
        ...


class ShortToken(NamedTuple):
    """A short token and its end, in seconds since 1970."""

    text: str
    expires_at: int


class ShortTokens:
    """Issues and verifies the short tokens of a log.

    `purpose` is part of each signature. A token that was issued with one mode of authentication does not work with
    another one.
    """

    def __init__(self, secrets: SecretStore, keys: KeyLookup | None, purpose: str, now: Clock = time) -> None:
        self._secrets = secrets
        self._keys = keys
        self._purpose = f"turnlog event stream, {purpose}: ".encode()
        self._now = now
        self._secret: bytes | None = None

    async def issue(self, identity: Identity) -> ShortToken:
        """Return a token for a caller.

        It ends with the caller's own credentials at the latest.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        expires_at = int(min(self._now() + LIFETIME_S, identity.expires_at or float("inf")))
        key = identity.key_id and identity.key_id.hex
        granted = [identity.owner_id, identity.actor, identity.role, key, identity.expires_at]
        content = orjson.dumps([*granted, expires_at])
        encoded = urlsafe_b64encode(content).rstrip(b"=")
        return ShortToken(f"{encoded.decode()}.{await self._signature(encoded)}", expires_at)

    async def verify(self, token: str) -> Identity:
        """Return the identity that a token grants.

        Raises:
            UnauthenticatedError: it is not a token of this log, has expired, or its key no longer works.
            StoreUnavailableError: the database does not answer.
        """
        encoded, _, signature = token.partition(".")
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise invalid_credentials()
        # Nothing of the content is looked at before the signature is known to be right.
        if not hmac.compare_digest(signature, await self._signature(encoded.encode())):
            raise invalid_credentials()
        owner_id, actor, role, key, credentials_end, expires_at = orjson.loads(_decoded(encoded))
        if expires_at <= self._now():
            raise invalid_credentials()
        key_id = None if key is None else UUID(key)
        if key_id and not (self._keys and await self._keys.find(key_id)):
            raise invalid_credentials()
        return Identity(owner_id, actor, role, key_id, credentials_end, delegated=True)

    def forget(self) -> None:
        """Read the secret again at the next use, as the database may be another one."""
        self._secret = None

    async def _signature(self, encoded: bytes) -> str:
        if (secret := self._secret) is None:
            secret = self._secret = await self._secrets.token_secret()
        signed = hmac.digest(secret, self._purpose + encoded, sha256)
        return urlsafe_b64encode(signed).decode().rstrip("=")


def _decoded(encoded: str) -> bytes:
    return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
