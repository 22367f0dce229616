"""The keys of a log, and the secret of its short tokens, in PostgreSQL."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow

from api.auth.api_keys import KEY_BYTES, SHOWN_CHARS, digest_of, new_key
from api.auth.errors import KeyNotFoundError
from api.auth.identity import GrantedRole, Identity, check_owner_id, granted
from eventlog.clock import new_id, now
from eventlog.db.connection import time_limit, translated_errors
from eventlog.db.database import STATEMENT_TIMEOUT_S, Database
from eventlog.db.statements import load_statements

_SQL = load_statements("api.auth", "key_store.sql")


class StoredKey(NamedTuple):
    """A key as it is stored. `prefix` is its first 8 characters."""

    id: UUID
    owner_id: str
    role: str
    name: str | None
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class FoundKey(NamedTuple):
    """A key that is not revoked, and the identity that it grants."""

    id: UUID
    digest: bytes
    identity: Identity


class KeyStore:
    """The keys of one log. Every method may raise StoreUnavailableError."""

    # Keys cannot be rebuilt from the log. So they are written by a connection that waits for the disk.

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, owner_id: str, role: GrantedRole, name: str | None = None, expires_at: datetime | None = None
    ) -> tuple[UUID, str]:
        """Store a new key and return its id and the key itself.

        The key cannot be read again.

        Raises:
            InvalidOwnerError: this is not the id of an owner.
        """
        id_, key = new_id(), new_key()
        parameters = {
            "id": id_,
            "owner_id": check_owner_id(owner_id),
            "role": role,
            "name": name,
            "prefix": key[:SHOWN_CHARS],
            "sha256": digest_of(key.encode()),
            "created_at": now(),
            "expires_at": expires_at,
        }
        await self._write("create_key", parameters)
        return id_, key

    async def all_keys(self) -> list[StoredKey]:
        """Return all keys, oldest first."""
        return [StoredKey(*row) for row in await self._database.fetch(_SQL["list_keys"])]

    async def revoke(self, key_id: UUID) -> StoredKey:
        """Revoke a key and return it. A key that was revoked before keeps its time.

        Raises:
            KeyNotFoundError: there is no such key.
        """
        rows = await self._write("revoke_key", {"id": key_id, "revoked_at": now()})
        if not rows:
            raise KeyNotFoundError(f"There is no key {key_id}.")
        return StoredKey(*rows[0])

    async def find(self, digests: Iterable[bytes], ids: Iterable[UUID]) -> list[FoundKey]:
        """Return the keys with these hashes or ids that are not revoked."""
        rows = await self._database.fetch(_SQL["read_keys"], {"digests": list(digests), "ids": list(ids)})
        return [_found(*row) for row in rows]

    async def token_secret(self) -> bytes:
        """Return the secret that signs short tokens, and make it at the first use."""
        row = await self._database.fetch_one(_SQL["read_secret"])
        if row is None:
            # Another process may make it at the same moment. The one that is stored counts.
            await self._write("create_secret", {"secret": secrets.token_bytes(KEY_BYTES), "created_at": now()})
            row = await self._database.fetch_one(_SQL["read_secret"])
        assert row is not None
        return row[0]

    async def _write(self, name: LiteralString, parameters: dict[str, Any]) -> list[TupleRow]:
        with translated_errors():
            async with await self._database.connect(durable=True) as connection:
                with time_limit(connection, STATEMENT_TIMEOUT_S):
                    cursor = await connection.execute(_SQL[name], parameters)
                    return await cursor.fetchall() if cursor.description else []


def _found(id_: UUID, digest: bytes, owner_id: str, role: GrantedRole, expires_at: datetime | None) -> FoundKey:
    ends = None if expires_at is None else expires_at.timestamp()
    return FoundKey(id_, digest, granted(role, owner_id, id_, ends))
