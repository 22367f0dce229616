"""Tokens are verified by the rules of the settings, whatever they say."""

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

import jwt
import pytest
from jwt.algorithms import get_default_algorithms

from api.auth.api_keys import digest_of
from api.auth.errors import UnauthenticatedError
from api.auth.identity import Identity
from api.auth.json_web_tokens import LEEWAY_S, MAX_TOKEN_BYTES, REMEMBERED_S, FixedKey, JWTVerifier, TokenRules
from api.auth.verifying_keys import keys_of, public_key, secret_key
from eventlog.clock import now
from tests.support.http.credentials import SECRET, claims, jwk, private_key, public_pem, token

RULES = TokenRules("https://issuer.example", "turnlog")
GIVEN = {"iss": RULES.issuer, "aud": RULES.audience}


def by_secret(rules: TokenRules | None = None) -> JWTVerifier:
    return JWTVerifier(FixedKey(secret_key(SECRET)), rules or TokenRules())


async def verified(verifier: JWTVerifier, text: str | bytes) -> Identity:
    content = text.encode() if isinstance(text, str) else text
    return await verifier.verify(content, digest_of(content))


async def refused(verifier: JWTVerifier, text: str | bytes) -> None:
    with pytest.raises(UnauthenticatedError, match=r"^The credentials are not valid\.$"):
        await verified(verifier, text)


def part(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(header: Any, payload: Any, key: bytes = SECRET.encode()) -> str:
    """Return a token of any header and any payload with a right HMAC."""
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hmac.digest(key, text.encode(), sha256))}"


HS256 = {"alg": "HS256", "typ": "JWT"}


async def test_a_token_grants_the_role_that_it_names_and_else_that_of_a_user() -> None:
    verifier = by_secret()
    alice = await verified(verifier, token())
    assert alice[:4] == ("alice", "user:alice", "user", None)
    ops = await verified(verifier, token(sub="ops", role="admin"))
    assert (ops.actor, ops.role) == ("admin:ops", "admin")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_verifies_the_algorithm_of_its_kind(algorithm: str) -> None:
    verifier = JWTVerifier(FixedKey(public_key(public_pem(algorithm))), RULES)
    assert (await verified(verifier, token(algorithm, **GIVEN))).owner_id == "alice"
    await refused(verifier, token(algorithm, key=private_key(algorithm, "another"), **GIVEN))


async def test_other_claims_may_hold_owner_and_role() -> None:
    verifier = by_secret(TokenRules(owner_claim="uid", role_claim="https://example.org/role"))
    given = {"uid": "bob", "https://example.org/role": "auditor", "role": "admin"}
    assert (await verified(verifier, token(**given))).actor == "auditor:bob"


async def test_a_token_without_signature_is_refused() -> None:
    unsigned = jwt.encode(claims(), None, "none")  # type: ignore[arg-type]
    await refused(by_secret(), unsigned)
    for alg in ("none", "None", "NONE", "nOnE", "hs256", "HS256 ", "", None, 0, True, ["HS256"], {"HS256": 1}):
        await refused(by_secret(), f"{part({'alg': alg})}.{part(claims())}.")
        await refused(by_secret(), signed({"alg": alg}, claims()))
    await refused(JWTVerifier(FixedKey(public_key(public_pem("RS256"))), TokenRules()), unsigned)


async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused() -> None:
    pem = public_pem("RS256")
    verifier = JWTVerifier(FixedKey(public_key(pem)), TokenRules())
    for secret in (pem, pem.strip(), pem.replace("\n", "\\n")):
        await refused(verifier, signed(HS256, claims(), secret.encode()))


async def test_a_token_of_another_algorithm_of_the_same_key_is_refused() -> None:
    verifier = JWTVerifier(FixedKey(public_key(public_pem("RS256"))), TokenRules())
    for algorithm in ("RS384", "RS512", "PS256"):
        await refused(verifier, jwt.encode(claims(), private_key("RS256"), algorithm))
    await refused(by_secret(), jwt.encode(claims(), SECRET.ljust(64), "HS512"))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ["https://issuer.example"]},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"exp": None},
        {"exp": "soon"},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": [9999999999]},
        {"exp": {"at": 9999999999}},
        {"exp": -1},
        {"exp": 1},
        {"nbf": 2**33},
        {"nbf": "1"},
        {"nbf": True},
        {"iat": 2**33},
        {"iat": "1"},
        {"aud": ["another", "evil"]},
        {"aud": [["turnlog"]]},
        {"aud": {"turnlog": True}},
        {"aud": "turnlog "},
        {"iss": "https://issuer.example/"},
        {"sub": None},
        {"sub": ["alice"]},
        {"sub": {"id": "alice"}},
        {"sub": True},
        {"sub": 7},
        {"sub": ""},
        {"sub": "a b"},
        {"sub": "x" * 257},
        {"sub": "a\0b"},
        {"role": "root"},
        {"role": "local"},
        {"role": "anonymous"},
        {"role": ["admin"]},
        {"role": {"admin": True}},
        {"role": ""},
    ],
)
async def test_a_token_with_wrong_claims_is_refused(changes: dict[str, Any]) -> None:
    verifier = by_secret(RULES)
    assert await verified(verifier, signed(HS256, claims(**GIVEN)))
    await refused(verifier, signed(HS256, claims(**{**GIVEN, **changes})))


async def test_a_token_may_be_for_several_audiences() -> None:
    verifier = by_secret(RULES)
    identity = await verified(verifier, token(iss=RULES.issuer, aud=["another", "turnlog"]))
    assert identity.owner_id == "alice"


async def test_a_token_for_an_audience_is_refused_where_none_is_set() -> None:
    for audience in ("another", ["another"]):
        await refused(by_secret(), token(aud=audience))


async def test_a_time_may_have_a_fraction() -> None:
    ends = now().timestamp() + 60.5
    identity = await verified(by_secret(), token(exp=ends, nbf=0.5, iat=0.5))
    assert identity.expires_at == int(ends) + LEEWAY_S


async def test_clocks_may_differ_by_30_s() -> None:
    moment = int(now().timestamp())
    assert await verified(by_secret(), token(exp=moment - 20, nbf=moment + 20))
    await refused(by_secret(), token(exp=moment - 31))
    await refused(by_secret(), token(nbf=moment + 40))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\x00",
        "é",
        "a" * 100,
        signed(HS256, b"[" * 5000 + b"]" * 5000)[:MAX_TOKEN_BYTES],
        signed(HS256, b"{" * 2000),
        signed(HS256, b"[" * 2900),
        signed(b"[" * 2900, claims()),
        signed(HS256, [1]),
        signed(HS256, "x"),
        signed(HS256, b'{"sub": "alice", "exp": 1e999}'),
        signed(HS256, b'{"sub": "alice", "exp": Infinity}'),
        signed(HS256, b'{"sub": "alice", "exp": NaN}'),
        signed(HS256, b'{"sub": "alice", "exp": ' + b"9" * 5000 + b"}"),
        signed(HS256, b"\xff\xfe"),
        signed([], claims()),
        signed({**HS256, "crit": ["exp"]}, claims()),
        signed({**HS256, "b64": False, "crit": ["b64"]}, claims()),
        signed({**HS256, "crit": []}, claims()),
        signed({**HS256, "crit": "exp"}, claims()),
        signed({**HS256, "kid": 7}, claims()),
        signed({**HS256, "kid": ["first"]}, claims()),
        signed({"typ": "JWT"}, claims()),
        signed(HS256, None),
        signed(HS256, []),
        f"{signed(HS256, claims())}.{part(b'x')}",
        f"{part(HS256)}.{part(claims())}",
        f"{part(HS256)}.{part(claims())}.",
        f"{signed(HS256, claims())} ",
        f"{signed(HS256, claims())}\n",
    ],
    ids=range(33),  # a token differs from run to run, and the processes of a run have to name a test alike
)
async def test_a_malformed_token_is_refused(text: str) -> None:
    await refused(by_secret(), text)


async def test_a_number_beyond_all_dates_is_the_end_of_no_token() -> None:
    identity = await verified(by_secret(), token(exp=10**300))
    assert identity.expires_at is not None and identity.expires_at < 2**54


async def test_a_long_token_is_refused() -> None:
    await refused(by_secret(), token(filler="x" * MAX_TOKEN_BYTES))


async def test_the_key_id_of_a_token_chooses_no_other_key_than_that_of_the_settings() -> None:
    for kid in ("x", "../../etc/passwd", "' OR 1=1 --", "http://evil.example/jwks"):
        assert await verified(by_secret(), token(kid=kid))
    for name in ("jku", "x5u", "jwk", "x5c"):
        evil = jwt.encode(claims(), private_key("RS256"), "RS256", {name: "http://127.0.0.1:1/keys"})
        await refused(by_secret(), evil)


async def test_a_verified_token_is_remembered_until_it_ends() -> None:
    moment = now().timestamp()
    clock = [moment]
    verifier = JWTVerifier(FixedKey(secret_key(SECRET)), TokenRules(), now=lambda: clock[0])
    text = token(exp=int(moment) + 60).encode()
    assert verifier.recent(digest_of(text)) is None
    identity = await verifier.verify(text, digest_of(text))
    assert verifier.recent(digest_of(text)) == identity
    clock[0] += 60 + LEEWAY_S
    assert verifier.recent(digest_of(text)) is None


async def test_a_verified_token_is_remembered_for_a_minute_at_most() -> None:
    clock = [now().timestamp()]
    verifier = JWTVerifier(FixedKey(secret_key(SECRET)), TokenRules(), now=lambda: clock[0])
    text = token().encode()
    await verifier.verify(text, digest_of(text))
    clock[0] += REMEMBERED_S - 1
    assert verifier.recent(digest_of(text))
    clock[0] += 1
    assert verifier.recent(digest_of(text)) is None


async def test_all_tokens_are_verified_again_after_a_key_was_taken_away() -> None:
    verifier = by_secret()
    text = token().encode()
    await verifier.verify(text, digest_of(text))
    verifier.forget()
    assert verifier.recent(digest_of(text)) is None


def test_a_key_set_holds_public_keys_for_signatures_only() -> None:
    rsa, ec, ed = jwk("RS256", "r"), jwk("ES256", "e"), jwk("EdDSA", "o")
    private = get_default_algorithms()["RS256"].to_jwk(private_key("RS256"), as_dict=True)
    unusable: list[Any] = [
        {"kty": "oct", "k": part(SECRET.encode()), "kid": "s"},
        {**rsa, "kid": "enc", "use": "enc"},
        {**rsa, "kid": "alg", "alg": "RS512"},
        {**rsa, "kid": "HS256", "alg": "HS256"},
        {**ec, "kid": "crv", "crv": "P-384"},
        {**ec, "kid": "point", "x": ec["y"], "y": ec["x"]},
        {**ed, "kid": "curve", "crv": "X25519"},
        {**rsa, "kid": "exponent", "e": "AA"},
        {**private, "kid": "private"},
        {"kty": "RSA", "kid": "empty"},
        {"kty": "RSA", "kid": "bad", "n": 7, "e": []},
        {"kty": ["RSA"], "kid": "list"},
        {**rsa, "kid": ["x"]},
        {**rsa, "kid": 7},
        {},
    ]
    keys = keys_of(json.dumps({"keys": [*unusable, rsa, ec, ed]}).encode())
    assert {kid: key.algorithm for kid, key in keys.items()} == {"r": "RS256", "e": "ES256", "o": "EdDSA"}
    (only,) = keys_of(json.dumps({"keys": [{**rsa, "kid": "r"}]}).encode()).keys() - {"r"}
    assert only is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1]}', b"<html>", b"[" * 100_000])
def test_other_content_is_no_key_set(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON Web Key Set"):
        keys_of(content)
