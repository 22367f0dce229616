"""Streams end with the credentials of their caller."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from api.auth.api_keys import new_key
from api.auth.authenticator import Authenticator, KeyVerifier
from api.auth.errors import UnauthenticatedError
from api.auth.identity import LOCAL, Identity, granted
from api.auth.key_lookup import LIFETIME_S, KeyLookup
from api.auth.short_tokens import ShortTokens
from tests.support.waiting import PATIENCE_S
from tests.unit.api.auth.test_key_lookup import Clock, Table
from tests.unit.api.auth.test_short_tokens import Secret

HOUR_S = 3600.0


class Callers:
    """An authenticator by keys whose clock and table a test sets."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.table = Table()
        self.lookup = KeyLookup(self.table, clock=self.clock, now=self.clock)
        tokens = ShortTokens(Secret(), self.lookup, "keys", self.clock)
        self.authenticator = Authenticator(tokens, KeyVerifier(self.lookup), self.lookup, self.clock, 0.0)

    @asynccontextmanager
    async def stream(self, identity: Identity) -> AsyncGenerator[Callable[[], bool]]:
        """Wait for the end of a caller's credentials.

        Yield a function that says whether they have ended.
        """
        waiting = asyncio.create_task(self.authenticator.wait_for_end(identity))
        try:
            yield waiting.done
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def checks() -> None:
    """Let the streams check their credentials some times."""
    for _ in range(50):
        await asyncio.sleep(0)


async def ended(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it depends on what the stream looks up
            await asyncio.sleep(0)


@pytest.fixture
def callers() -> Callers:
    return Callers()


async def test_a_stream_of_a_token_ends_with_the_token(callers: Callers) -> None:
    token = granted("user", "alice", None, callers.clock.now + HOUR_S)
    async with callers.stream(token) as has_ended:
        callers.clock.now += HOUR_S - 1
        await checks()
        assert not has_ended()
        callers.clock.now += 1
        await ended(has_ended)


async def test_a_stream_of_a_key_ends_when_the_key_expires(callers: Callers) -> None:
    async with callers.stream(callers.table.add(expires_at=callers.clock.now + HOUR_S)) as has_ended:
        await checks()
        assert not has_ended()
        callers.clock.now += HOUR_S
        await ended(has_ended)


@pytest.mark.parametrize("delegated", [False, True])
async def test_a_stream_ends_when_the_key_behind_it_is_revoked(callers: Callers, delegated: bool) -> None:
    identity = callers.table.add()._replace(delegated=delegated)
    async with callers.stream(identity) as has_ended:
        await checks()
        assert not has_ended()
        callers.table.keys.clear()
        callers.clock.now += LIFETIME_S
        await ended(has_ended)


async def test_a_stream_goes_on_while_its_key_cannot_be_checked(callers: Callers) -> None:
    async with callers.stream(callers.table.add()) as has_ended:
        callers.table.down = True
        callers.clock.now += LIFETIME_S
        await checks()
        assert not has_ended()
        callers.table.keys.clear()
        callers.table.down = False
        callers.clock.now += LIFETIME_S
        await ended(has_ended)


@pytest.mark.parametrize("value", [None, b"", b"Bearer", b"Bearer ", b"Basic x", b"Bearer tlk_x", b"Bearer \xff"])
async def test_other_credentials_than_a_key_are_refused_without_a_look_into_the_table(
    callers: Callers, value: bytes | None
) -> None:
    headers = {} if value is None else {b"authorization": value}
    with pytest.raises(UnauthenticatedError):
        await callers.authenticator.identify(headers)
    assert callers.table.statements == []


async def test_a_key_that_is_not_in_the_table_is_refused(callers: Callers) -> None:
    with pytest.raises(UnauthenticatedError, match=r"^The credentials are not valid\.$"):
        await callers.authenticator.identify({b"authorization": f"Bearer {new_key()}".encode()})


async def test_without_authentication_every_caller_is_the_local_owner() -> None:
    nobody = Authenticator(ShortTokens(Secret(), None, "none"))
    for headers in ({}, {b"authorization": b"Bearer x"}):
        assert await nobody.identify(headers, "any token") == LOCAL
