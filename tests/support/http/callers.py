"""Callers of an API with authentication by keys."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx

from api.auth.identity import GrantedRole
from tests.support.http.api_client import Api
from tests.support.http.credentials import bearer, create_key, revoke_key


@dataclass(frozen=True)
class Guarded:
    """An API with authentication by keys, and its database."""

    api: Api
    conninfo: str

    def caller(self, role: GrantedRole, owner: str | None = None, **headers: str) -> "Caller":
        """Return a new caller with a key, by default of an owner with a new id."""
        owner_id = owner or f"{role}-{uuid4().hex[:8]}"
        key_id, key = create_key(self.conninfo, owner_id, role)
        return Caller(self, owner_id, key_id, key, {**bearer(key), **headers})


@dataclass(frozen=True)
class Caller:
    """A caller with a key."""

    guarded: Guarded
    owner_id: str
    key_id: UUID
    key: str
    headers: dict[str, str]

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        """Send a request with the caller's key."""
        http = self.guarded.api.http
        return http.request(method, path, headers={**self.headers, **(headers or {})}, **options)

    def conversation(self, **body: Any) -> dict[str, Any]:
        """Start a conversation."""
        response = self.send("POST", "/v1/conversations", json=body)
        assert response.status_code == 201, response.text
        return response.json()

    def short_token(self) -> str:
        """Return a new short token."""
        response = self.send("POST", "/v1/tokens")
        assert response.status_code == 201, response.text
        return response.json()["access_token"]

    def revoke(self) -> None:
        """Revoke the caller's key."""
        revoke_key(self.guarded.conninfo, self.key_id)
