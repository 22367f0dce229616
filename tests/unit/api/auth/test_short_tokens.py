"""Short tokens are signed by the log, and live ten minutes at most."""

import base64
import json
from typing import Any

import pytest

from api.auth.errors import UnauthenticatedError
from api.auth.identity import Identity, granted
from api.auth.key_lookup import KeyLookup
from api.auth.key_store import FoundKey
from api.auth.short_tokens import LIFETIME_S, ShortTokens
from eventlog.clock import new_id

NOW = 1_800_000_000.0


class Secret:
    """The place of a secret, which counts how often it is read."""

    def __init__(self, secret: bytes = b"s" * 32) -> None:
        self.secret = secret
        self.reads = 0

    async def token_secret(self) -> bytes:
        self.reads += 1
        return self.secret


class OneKey:
    """A table of one key, which may be revoked."""

    def __init__(self, identity: Identity) -> None:
        self.identity: Identity | None = identity

    async def find(self, digests: object, ids: Any) -> list[FoundKey]:
        key = self.identity
        return [FoundKey(key.key_id, b"", key)] if key and key.key_id and key.key_id in ids else []


def short_tokens(secret: Secret | None = None, moment: float = NOW, purpose: str = "jwt") -> ShortTokens:
    return ShortTokens(secret or Secret(), None, purpose, lambda: moment)


async def refused(tokens: ShortTokens, text: str) -> None:
    with pytest.raises(UnauthenticatedError, match=r"^The credentials are not valid\.$"):
        await tokens.verify(text)


ALICE = granted("user", "alice", None, NOW + 86400)


async def test_a_token_grants_the_identity_of_its_caller() -> None:
    token = await short_tokens().issue(ALICE)
    assert token.expires_at == NOW + LIFETIME_S
    assert await short_tokens().verify(token.text) == ALICE._replace(delegated=True)


async def test_a_token_of_a_service_names_the_owner_that_it_serves() -> None:
    billing = granted("service", "billing", None, None)._replace(owner_id="Zoë")
    found = await short_tokens().verify((await short_tokens().issue(billing)).text)
    assert (found.owner_id, found.actor, found.delegated) == ("Zoë", "service:billing", True)


async def test_a_token_ends_after_ten_minutes_or_with_its_callers_credentials() -> None:
    token = (await short_tokens().issue(ALICE)).text
    assert LIFETIME_S == 10 * 60
    assert await short_tokens(moment=NOW + LIFETIME_S - 1).verify(token)
    await refused(short_tokens(moment=NOW + LIFETIME_S), token)
    ending = await short_tokens().issue(ALICE._replace(expires_at=NOW + 60))
    assert ending.expires_at == NOW + 60
    await refused(short_tokens(moment=NOW + 60), ending.text)


async def test_a_token_ends_with_its_key() -> None:
    identity = granted("user", "alice", new_id(), None)
    table = OneKey(identity)
    clock = [0.0]
    lookup = KeyLookup(table, clock=lambda: clock[0], now=lambda: NOW)
    tokens = ShortTokens(Secret(), lookup, "keys", lambda: NOW)
    token = (await tokens.issue(identity)).text
    assert (await tokens.verify(token)).key_id == identity.key_id
    table.identity = None
    clock[0] += 5
    await refused(tokens, token)


@pytest.mark.parametrize("purpose", ["keys", "none"])
async def test_a_token_of_another_mode_is_refused(purpose: str) -> None:
    await refused(short_tokens(purpose=purpose), (await short_tokens().issue(ALICE)).text)


async def test_a_token_of_another_log_is_refused() -> None:
    await refused(short_tokens(Secret(b"t" * 32)), (await short_tokens().issue(ALICE)).text)


async def test_a_changed_token_is_refused() -> None:
    tokens = short_tokens()
    text = (await tokens.issue(ALICE)).text
    content, signature = text.split(".")
    claims = json.loads(base64.urlsafe_b64decode(content + "=="))
    for place, value in ((0, "bob"), (2, "admin"), (5, int(NOW) + 10**6)):
        changed = base64.urlsafe_b64encode(json.dumps([*claims[:place], value, *claims[place + 1 :]]).encode())
        await refused(tokens, f"{changed.decode().rstrip('=')}.{signature}")
    for wrong in (
        "",
        ".",
        content,
        f"{content}.",
        f".{signature}",
        f"{text}.",
        f"{text}x",
        f"é{text}",
        "x" * 5000,
        "\0",
    ):
        await refused(tokens, wrong)


async def test_the_secret_is_read_once_and_again_after_a_reconnect() -> None:
    secret = Secret()
    tokens = short_tokens(secret)
    text = (await tokens.issue(ALICE)).text
    await tokens.verify(text)
    assert secret.reads == 1
    secret.secret = b"another" * 5
    tokens.forget()
    await refused(tokens, text)
