"""The modes of authentication, each with its settings and a caller's credentials."""

import asyncio
from collections.abc import Mapping
from time import time
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.auth.key_store import KeyStore
from eventlog.db.database import Database
from projections.catalog import prepare

OWNER = "alice"
SECRET = "a secret of the benchmark, with more than 32 bytes"
ISSUER, AUDIENCE = "https://issuer.example", "turnlog"
RSA_BITS = 2048
LIFETIME_S = 24 * 60 * 60


class Mode(NamedTuple):
    """A way to authenticate: the settings of a server, and what its caller sends."""

    name: str
    settings: Mapping[str, str]
    bearer: str | None = None


async def make_modes(conninfo: str) -> list[Mode]:
    """Return all modes, each for a log of its own. The first two are open."""
    rsa, ed25519 = generate_private_key(65537, RSA_BITS), Ed25519PrivateKey.generate()
    return [
        _mode("none", "none"),
        _mode("none again", "none"),
        _mode("keys", "keys", await _key(conninfo, "keys")),
        _signed("HS256", SECRET, "TURNLOG_JWT_SECRET", SECRET),
        _signed("RS256", rsa, "TURNLOG_JWT_PUBLIC_KEY", _pem(rsa)),
        _signed("EdDSA", ed25519, "TURNLOG_JWT_PUBLIC_KEY", _pem(ed25519)),
    ]


def _mode(name: str, auth: str, bearer: str | None = None, **settings: str) -> Mode:
    return Mode(name, {"TURNLOG_AUTH": auth, "TURNLOG_LOG_SCHEMA": _schema(name), **settings}, bearer)


def _signed(algorithm: str, key: Any, variable: str, verifying: str) -> Mode:
    now = int(time())
    claims = {"sub": OWNER, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + LIFETIME_S}
    settings = {variable: verifying, "TURNLOG_JWT_ISSUER": ISSUER, "TURNLOG_JWT_AUDIENCE": AUDIENCE}
    return _mode(f"jwt {algorithm}", "jwt", jwt.encode(claims, key, algorithm), **settings)


def _schema(name: str) -> str:
    return name.lower().replace(" ", "_")


def _pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def _key(conninfo: str, schema: str) -> str:
    """Return a new key of a new log."""
    await asyncio.to_thread(prepare, conninfo, schema)
    database = Database(conninfo, schema)
    await database.open()
    try:
        _, key = await KeyStore(database).create(OWNER, "user")
    finally:
        await database.close()
    return key
