"""Tokens with the keys of a JWKS server, whatever the server does."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from time import time
from typing import Any

import pytest

from api.auth.api_keys import digest_of
from api.auth.errors import IdentityProviderError, UnauthenticatedError
from api.auth.json_web_tokens import JWTVerifier, TokenRules
from api.auth.jwks import LIFETIME_S, MAX_AGE_S, MAX_BYTES, PAUSE_S, KeySet
from tests.integration.api.conftest import Serve
from tests.support.http.credentials import JWKSServer, bearer, jwk, private_key, token
from tests.support.http.resources import check_problem
from tests.support.store import until
from tests.support.waiting import eventually


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jwks() -> Iterator[JWKSServer]:
    with JWKSServer(jwk("RS256", "first")) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def key_set(server: JWKSServer, clock: Clock, timeout_s: float = 30) -> AsyncGenerator[KeySet]:
    keys = KeySet(server.url, timeout_s=timeout_s, clock=clock)
    try:
        yield keys
    finally:
        await keys.close()


async def unavailable(keys: KeySet, kid: str | None = "first") -> None:
    with pytest.raises(IdentityProviderError):
        await keys.find(kid)


async def test_keys_are_fetched_once_for_many_tokens(jwks: JWKSServer, clock: Clock) -> None:
    async with key_set(jwks, clock) as keys:
        found = await asyncio.gather(*(keys.find("first") for _ in range(50)))
    assert {key.algorithm for key in found if key} == {"RS256"}
    assert jwks.requests == 1


async def test_an_unknown_key_id_is_looked_for_once_in_some_seconds(jwks: JWKSServer, clock: Clock) -> None:
    async with key_set(jwks, clock) as keys:
        await keys.find("first")
        assert [await keys.find(f"made-up-{number}") for number in range(20)] == [None] * 20
        assert jwks.requests == 1
        clock.now += PAUSE_S
        jwks.give(jwk("RS256", "first"), jwk("ES256", "second"))
        assert await keys.find("second")
        assert [await keys.find(f"made-up-{number}") for number in range(20)] == [None] * 20
        assert jwks.requests == 2


async def test_old_keys_go_on_working_while_the_server_is_down(jwks: JWKSServer, clock: Clock) -> None:
    async with key_set(jwks, clock) as keys:
        first = await keys.find("first")
        jwks.status = 500
        clock.now += LIFETIME_S
        assert await keys.find("first") == first
        await until(lambda: jwks.requests == 2)
        clock.now += PAUSE_S
        await unavailable(keys, "second")  # it may be a new key of the issuer
        assert await keys.find("first") == first


async def test_old_keys_are_fetched_again_and_used_meanwhile(jwks: JWKSServer, clock: Clock) -> None:
    forgotten: list[bool] = []
    async with key_set(jwks, clock) as keys:
        keys.on_change(lambda: forgotten.append(True))
        first = await keys.find("first")
        clock.now += LIFETIME_S
        jwks.give(jwk("ES256", "second"))
        jwks.may_answer.clear()
        assert await keys.find("first") == first
        jwks.may_answer.set()
        await until(lambda: forgotten)
        assert await keys.find("first") is None
        assert await keys.find("second")


async def test_a_server_that_is_down_at_the_start_is_asked_again(jwks: JWKSServer, clock: Clock) -> None:
    jwks.status = 503
    async with key_set(jwks, clock) as keys:
        await unavailable(keys)
        await unavailable(keys)
        assert jwks.requests == 1
        jwks.status = 200
        clock.now += PAUSE_S
        assert await keys.find("first")


async def test_a_slow_server_is_given_up(jwks: JWKSServer, clock: Clock) -> None:
    jwks.may_answer.clear()
    async with key_set(jwks, clock, timeout_s=0.05) as keys:
        await unavailable(keys)


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"x" * 10_000_000, {}),
        (json.dumps({"keys": [], "x": "x" * MAX_BYTES}).encode(), {}),
        (b'{"keys": []}', {"Content-Encoding": "gzip"}),
        (b"<html>", {}),
        (b"[" * 100_000, {}),
        (b'{"keys": 7}', {}),
        (b"", {}),
    ],
)
async def test_content_that_is_no_small_key_set_is_refused(
    jwks: JWKSServer, clock: Clock, content: bytes, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    jwks.content, jwks.headers = content, headers
    async with key_set(jwks, clock) as keys:
        await unavailable(keys)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warning.getMessage()) < 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(jwks: JWKSServer, clock: Clock, status: int) -> None:
    with JWKSServer(jwk("RS256", "first")) as elsewhere:
        jwks.status, jwks.headers = status, {"Location": elsewhere.url}
        async with key_set(jwks, clock) as keys:
            await unavailable(keys)
        assert elsewhere.requests == 0


@pytest.mark.parametrize("status", [201, 206, 404, 500])
async def test_another_status_brings_no_keys(jwks: JWKSServer, clock: Clock, status: int) -> None:
    jwks.status = status
    async with key_set(jwks, clock) as keys:
        await unavailable(keys)


async def test_an_answer_that_trickles_is_given_up(jwks: JWKSServer, clock: Clock) -> None:
    # Each byte arrives in time, and the whole never does.
    jwks.content, jwks.repeat_s = b" ", 0.01
    async with key_set(jwks, clock, timeout_s=0.5) as keys:
        await unavailable(keys)


async def test_an_answer_without_end_is_given_up(jwks: JWKSServer, clock: Clock) -> None:
    jwks.content, jwks.repeat_s = b" " * 16_384, 0.0
    async with key_set(jwks, clock) as keys:
        await unavailable(keys)


async def test_a_flood_of_key_ids_while_the_server_hangs_does_not_hold_up_known_keys(
    jwks: JWKSServer, clock: Clock
) -> None:
    async with key_set(jwks, clock) as keys:
        first = await keys.find("first")
        clock.now += PAUSE_S
        jwks.may_answer.clear()
        flood = [asyncio.create_task(keys.find(f"made-up-{number}")) for number in range(100)]
        await until(lambda: jwks.requests == 2)
        assert await keys.find("first") == first
        assert not any(task.done() for task in flood)
        jwks.may_answer.set()
        assert await asyncio.gather(*flood) == [None] * 100
    assert jwks.requests == 2


async def test_keys_that_nobody_needed_for_long_are_not_used_before_a_fetch(jwks: JWKSServer, clock: Clock) -> None:
    async with key_set(jwks, clock) as keys:
        assert await keys.find("first")
        jwks.give(jwk("ES256", "second"))
        clock.now += MAX_AGE_S
        assert await keys.find("first") is None


async def test_keys_that_nobody_needed_for_long_survive_an_outage(jwks: JWKSServer, clock: Clock) -> None:
    async with key_set(jwks, clock) as keys:
        first = await keys.find("first")
        jwks.status = 500
        clock.now += MAX_AGE_S
        assert await keys.find("first") == first
        assert jwks.requests == 2


async def test_a_token_that_is_in_use_ends_after_its_key_was_taken_away(jwks: JWKSServer, clock: Clock) -> None:
    began, text = time(), token("RS256", "first").encode()
    async with key_set(jwks, clock) as keys:
        verifier = JWTVerifier(keys, TokenRules(), now=lambda: began + clock.now)
        keys.on_change(verifier.forget)

        async def works() -> bool:
            try:
                digest = digest_of(text)
                return bool(verifier.recent(digest) or await verifier.verify(text, digest))
            except UnauthenticatedError:
                return False

        assert await works()
        jwks.give(jwk("ES256", "second"))
        taken_away_at = clock.now
        while await works():
            clock.now += 1
            # A fetch that has begun ends before the next second.
            await until(lambda: keys._fetching is None)
    assert LIFETIME_S <= clock.now - taken_away_at < 7 * 60


async def test_a_request_that_gives_up_does_not_end_the_fetch_of_others(jwks: JWKSServer, clock: Clock) -> None:
    jwks.may_answer.clear()
    async with key_set(jwks, clock) as keys:
        first, second = asyncio.create_task(keys.find("first")), asyncio.create_task(keys.find("first"))
        await until(lambda: jwks.requests)
        first.cancel()
        jwks.may_answer.set()
        assert await second


def test_the_api_takes_tokens_of_the_key_set_and_refuses_others(
    shared_database_url: str, serve: Serve, jwks: JWKSServer
) -> None:
    rules = {"iss": "https://i.example", "aud": "t"}
    given: dict[str, Any] = {"auth": "jwt", "jwt_jwks_url": jwks.url}
    given |= {"jwt_issuer": rules["iss"], "jwt_audience": rules["aud"]}
    with serve(shared_database_url, **given) as api:

        def status(text: str) -> int:
            return api.http.get("/v1/conversations", headers=bearer(text)).status_code

        assert status(token("RS256", "first", **rules)) == 200
        assert status(token("RS256", **rules)) == 200  # there is one key
        assert status(token("RS256", "second", **rules)) == 401
        assert status(token("RS256", "first", key=private_key("RS256", "evil"), **rules)) == 401
        assert status(token("HS256", "first", **rules)) == 401
        assert status(token("RS256", "first", **{**rules, "aud": "other"})) == 401
        assert status(token("RS256", "first", **{**rules, "iss": "other"})) == 401
        assert status(token("RS256", "first", exp=1, **rules)) == 401
        assert status("tlk_" + "a" * 43) == 401
        ops = bearer(token("RS256", "first", sub="ops", role="admin", **rules))
        assert api.http.get("/metrics", headers=ops).status_code == 200
        short = api.http.post("/v1/tokens", headers=ops).json()["access_token"]
        with api.http.stream("GET", "/v1/events", params={"access_token": short}) as response:
            assert response.status_code == 200


def test_an_api_starts_without_its_jwks_server(shared_database_url: str, serve: Serve, jwks: JWKSServer) -> None:
    jwks.status = 500
    with serve(shared_database_url, auth="jwt", jwt_jwks_url=jwks.url) as api:
        assert api.http.get("/healthz").status_code == 200
        response = api.http.get("/v1/conversations", headers=bearer(token("RS256", "first")))
        check_problem(response, 503, "IDENTITY_PROVIDER_UNAVAILABLE")
        assert response.headers["retry-after"] == "1"
        assert jwks.url not in response.text
        jwks.status = 200
        ops = bearer(token("RS256", "first", role="admin"))
        eventually(lambda: api.http.get("/metrics", headers=ops).status_code == 200)
        assert "turnlog_key_set_failures_total 1.0" in api.http.get("/metrics", headers=ops).text
