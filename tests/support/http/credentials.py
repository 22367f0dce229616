"""Credentials for tests: keys of a log, key pairs, tokens, and a JWKS server."""

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from types import TracebackType
from typing import Any, Self, cast
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from api.auth.authenticator import Authenticator
from api.auth.identity import GrantedRole
from api.auth.key_store import KeyStore, StoredKey
from api.auth.short_tokens import SecretStore, ShortTokens
from eventlog.clock import now
from eventlog.db.database import Database

SECRET = "a secret of the tests that has more than 32 bytes"
AN_HOUR_S = 3600

WITHOUT_AUTHENTICATION = Authenticator(ShortTokens(cast(SecretStore, None), None, "none"))
"""An authenticator to which every caller is the local owner."""


def bearer(token: str) -> dict[str, str]:
    """Return the headers that carry a key or a token."""
    return {"Authorization": f"Bearer {token}"}


def create_key(
    conninfo: str, owner: str, role: GrantedRole = "user", expires_at: datetime | None = None
) -> tuple[UUID, str]:
    """Create a key in a log and return its id and the key."""
    return _with_store(conninfo, lambda store: store.create(owner, role, expires_at=expires_at))


def revoke_key(conninfo: str, key_id: UUID) -> StoredKey:
    """Revoke a key of a log."""
    return _with_store(conninfo, lambda store: store.revoke(key_id))


def _with_store(conninfo: str, work: Callable[[KeyStore], Any]) -> Any:
    async def run() -> Any:
        database = Database(conninfo)
        await database.open()
        try:
            return await work(KeyStore(database))
        finally:
            await database.close()

    return asyncio.run(run())


def private_key(algorithm: str, name: str = "first") -> Any:
    """Return a key pair for an algorithm, the same one for the same name."""
    return _generated(algorithm, name)


@cache
def _generated(algorithm: str, _name: str) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_pem(algorithm: str, name: str = "first") -> str:
    """Return the public half of a key pair."""
    public = private_key(algorithm, name).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(algorithm: str, kid: str, name: str = "first") -> dict[str, Any]:
    """Return the public half of a key pair as a member of a key set."""
    found: Any = get_default_algorithms()[algorithm].to_jwk(private_key(algorithm, name).public_key(), as_dict=True)
    return {**found, "kid": kid}


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims for Alice. A change of None leaves a claim out."""
    valid = {"sub": "alice", "exp": int(now().timestamp()) + AN_HOUR_S}
    return {name: value for name, value in {**valid, **changes}.items() if value is not None}


def token(algorithm: str = "HS256", kid: str | None = None, key: Any = None, **changes: Any) -> str:
    """Return a signed token."""
    signing = key or (SECRET if algorithm == "HS256" else private_key(algorithm))
    return jwt.encode(claims(**changes), signing, algorithm, headers={"kid": kid} if kid else None)


class JWKSServer:
    """A server of a key set at `url`, which may be slow, refuse, or send too much.

    `requests` counts the requests. A request waits until `may_answer` is set. With `repeat_s` the content is sent again
    and again, with that pause, until the client has had enough.
    """

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.content = json.dumps({"keys": keys}).encode()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests = 0
        self.repeat_s: float | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def give(self, *keys: dict[str, Any]) -> None:
        """Serve other keys from now on."""
        self.content = json.dumps({"keys": keys}).encode()

    def __enter__(self) -> Self:
        jwks = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                jwks.requests += 1
                jwks.may_answer.wait()
                length = {} if jwks.repeat_s is not None else {"Content-Length": str(len(jwks.content))}
                try:
                    self.send_response(jwks.status)
                    for name, value in {**jwks.headers, **length}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(jwks.content)
                    while jwks.repeat_s is not None:
                        sleep(jwks.repeat_s)
                        self.wfile.write(jwks.content)
                except OSError:
                    pass  # the client has had enough

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.may_answer.set()
        self.repeat_s = None
        self._server.shutdown()
        self._server.server_close()
