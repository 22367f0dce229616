"""Tokens that are made to get in: each is refused like any other text."""

import base64
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import httpx
import jwt
import pytest

from api.auth.json_web_tokens import MAX_TOKEN_BYTES
from tests.integration.api.conftest import Serve
from tests.support.http.api_client import Api
from tests.support.http.credentials import JWKSServer, bearer, claims, jwk, private_key, public_pem, token

RULES = {"iss": "https://issuer.example", "aud": "turnlog"}
HEADER = {"alg": "RS256", "kid": "first"}
EVIL = private_key("RS256", "evil")
OPERATOR = {"sub": "ops", "role": "admin"}
PATHS = ("/v1/conversations", "/v1/events", "/metrics", "/v1/projections", "/v1/agents/token-attacks")


def part(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def payload(**changes: Any) -> dict[str, Any]:
    return claims(**{**RULES, **OPERATOR, **changes})


def signed(content: Any = None, *, key: Any = None, algorithm: str = "RS256", **header: Any) -> str:
    """Return a signed token of any payload, by default a valid one of an admin."""
    raw = content if isinstance(content, bytes) else json.dumps(content or payload()).encode()
    return jwt.PyJWS().encode(raw, key or private_key("RS256"), algorithm, {"kid": "first", **header})


def by_hmac(secret: bytes, **header: Any) -> str:
    text = f"{part({'alg': 'HS256', 'kid': 'first', **header})}.{part(payload())}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), sha256))}"


def unsigned(alg: Any, signature: str = "") -> str:
    return f"{part({**HEADER, 'alg': alg})}.{part(payload())}.{signature}"


def literal(exp: str) -> str:
    return signed(json.dumps(payload(exp=0)).replace('"exp": 0', f'"exp": {exp}').encode())


PEM = public_pem("RS256")
HINTS = ("jku", "x5u")
NO_OWNER = (None, 7, True, "", " ", "a b", "a\0b", "a\nb", "a\u202eb", "a\ud800", "x" * 257, ["ops"], {"id": "ops"})
NO_EXPIRY = ('"9999999999"', '"soon"', "true", "null", "NaN", "Infinity", "-Infinity", "1e400", "[1]", "{}", "-1")

ATTACKS: dict[str, Callable[[], str]] = {
    **{f"alg {alg!r}": lambda alg=alg: unsigned(alg) for alg in ("none", "None", "nOnE", "NONE", "", None)},
    "alg none with the signature of another": lambda: unsigned("none", signed().rpartition(".")[2]),
    "no alg": lambda: f"{part({'kid': 'first'})}.{part(payload())}.",
    "HS256 with the public key": lambda: by_hmac(PEM.encode()),
    "HS256 with the public key without its last line end": lambda: by_hmac(PEM.strip().encode()),
    "HS256 with the public key in one line": lambda: by_hmac(PEM.replace("\n", "\\n").encode()),
    "HS256 with the member of the key set": lambda: by_hmac(json.dumps(jwk("RS256", "first")).encode()),
    "HS256 with an empty secret": lambda: by_hmac(b""),
    "HS256 that says it is RS256": lambda: by_hmac(PEM.encode(), alg="RS256"),
    "RS512": lambda: signed(algorithm="RS512"),
    "PS256": lambda: signed(algorithm="PS256"),
    "ES256": lambda: signed(key=private_key("ES256"), algorithm="ES256"),
    "EdDSA": lambda: signed(key=private_key("EdDSA"), algorithm="EdDSA"),
    "another key": lambda: signed(key=EVIL),
    "another key that it carries": lambda: signed(key=EVIL, jwk=jwk("RS256", "first", "evil")),
    "a certificate": lambda: signed(key=EVIL, x5c=[part(b"certificate")]),
    "an unknown kid": lambda: signed(key=EVIL, kid="made-up"),
    "a kid that is a path": lambda: signed(key=EVIL, kid="../../../../dev/null"),
    "a kid that is SQL": lambda: signed(key=EVIL, kid="' UNION SELECT 'secret' --"),
    "a kid that is an address": lambda: signed(key=EVIL, kid="http://127.0.0.1:1/keys"),
    "a critical header": lambda: signed(crit=["exp"], exp=1),
    "no payload": lambda: f"{signed().partition('.')[0]}..{signed().rpartition('.')[2]}",
    "the payload of another": lambda: f"{part(HEADER)}.{part(payload(sub='eve'))}.{signed().rpartition('.')[2]}",
    "wrong issuer": lambda: signed(payload(iss="https://evil.example")),
    "no issuer": lambda: signed(payload(iss=None)),
    "several issuers": lambda: signed(payload(iss=[RULES["iss"]])),
    "wrong audience": lambda: signed(payload(aud="another")),
    "no audience": lambda: signed(payload(aud=None)),
    "other audiences": lambda: signed(payload(aud=["another", "turnlog2"])),
    "no audience in a list": lambda: signed(payload(aud=[])),
    "expired": lambda: signed(payload(exp=1)),
    "no expiry": lambda: signed(payload(exp=None)),
    "not yet": lambda: signed(payload(nbf=2**33)),
    "issued in the future": lambda: signed(payload(iat=2**33)),
    **{f"expiry {exp}": lambda exp=exp: literal(exp) for exp in NO_EXPIRY},
    **{f"owner {owner!r}": lambda owner=owner: signed({**payload(), "sub": owner}) for owner in NO_OWNER},
    "no owner": lambda: signed(payload(sub=None)),
    **{
        f"role {role!r}": lambda role=role: signed({**payload(), "role": role})
        for role in (None, "", "root", "local", "anonymous", "ADMIN", "admin ", 1, ["admin"], {"admin": True})
    },
    "nested": lambda: signed(b"[" * 2500),
    "nested in a claim": lambda: signed(b'{"sub": ' + b"[" * 2500 + b"]" * 2500 + b"}"),
    "nested header": lambda: f"{part(b'[' * 2500)}.{part(payload())}.{part(b'x')}",
    "long": lambda: signed(payload(filler="x" * MAX_TOKEN_BYTES)),
    "a number of thousands of digits": lambda: literal("9" * 4500),
    "no object": lambda: signed(b'["ops"]'),
    "no JSON": lambda: signed(b"\xff\xfe{"),
    "five parts": lambda: f"{signed()}.{part(b'x')}.{part(b'y')}",
    "two parts": lambda: signed().rpartition(".")[0],
    "two tokens": lambda: f"{signed()},{signed()}",
    "a key": lambda: f"tlk_{'a' * 43}",
}


@pytest.fixture(scope="module", params=["public key", "key set"])
def by_jwt(request: pytest.FixtureRequest, shared_database_url: str, serve: Serve) -> Iterator[Api]:
    """An API that takes tokens of an issuer, whose key is a setting or in a key set."""
    rules = {"auth": "jwt", "jwt_issuer": RULES["iss"], "jwt_audience": RULES["aud"]}
    with JWKSServer(jwk("RS256", "first")) as server:
        key = {"jwt_jwks_url": server.url} if request.param == "key set" else {"jwt_public_key": PEM}
        with serve(shared_database_url, **rules, **key) as api:
            yield api


def asked(api: Api, path: str, text: str) -> tuple[int, dict[str, str], bytes]:
    """Return the answer to a request with a token, without its date."""
    with api.http.stream("GET", path, headers=bearer(text)) as response:
        headers = {name: value for name, value in response.headers.items() if name != "date"}
        return response.status_code, headers, response.read() if response.status_code != 200 else b""


def test_a_token_of_the_issuer_is_accepted(by_jwt: Api) -> None:
    for text in (signed(), token("RS256", "first", **RULES, **OPERATOR), signed(payload(aud=["another", "turnlog"]))):
        statuses = [asked(by_jwt, path, text)[0] for path in PATHS]
        assert statuses == [200, 200, 200, 200, 404]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_token_is_refused_like_any_other_text(
    by_jwt: Api, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = ATTACKS[name]()
    with caplog.at_level(logging.DEBUG):
        for path in PATHS:
            found = asked(by_jwt, path, text)
            assert found == asked(by_jwt, path, "nonsense")
            assert found[0] == 401
            assert found[1]["www-authenticate"] == "Bearer"
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    secrets = [each for each in text.split(".") if len(each) > 20]
    assert [each for each in secrets if any(each in line for line in lines)] == []


@pytest.mark.parametrize("hint", HINTS)
def test_a_token_sends_the_server_to_no_address(by_jwt: Api, hint: str) -> None:
    with JWKSServer(jwk("RS256", "first", "evil")) as evil:
        for kid in ("first", "made-up"):
            assert asked(by_jwt, "/v1/conversations", signed(key=EVIL, kid=kid, **{hint: evil.url}))[0] == 401
        # With the right signature the hint changes nothing.
        assert asked(by_jwt, "/v1/conversations", signed(**{hint: evil.url}))[0] == 200
        assert evil.requests == 0


def test_a_token_is_read_from_no_other_place(by_jwt: Api) -> None:
    text = signed()
    assert asked(by_jwt, "/v1/conversations", text)[0] == 200

    def status(**options: Any) -> int:
        response: httpx.Response = by_jwt.http.get("/v1/conversations", **options)
        return response.status_code

    for name in ("access_token", "token", "key", "api_key", "authorization"):
        assert status(params={name: text}) == 401
    for name in ("X-Api-Key", "X-Authorization", "Proxy-Authorization", "Cookie", "Turnlog-Owner"):
        assert status(headers={name: f"Bearer {text}"}) == 401
    assert status(headers=[("Authorization", f"Bearer {text}")] * 2) == 401
    assert by_jwt.http.get("/v1/events", params={"access_token": text}).status_code == 401
