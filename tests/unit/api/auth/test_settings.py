"""Wrong settings of authentication stop the start with one line."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from api.settings import SettingsError, load_settings
from tests.support.http.credentials import SECRET, private_key, public_pem

URL = "https://issuer.example/jwks.json"


def pem(key: Any) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": "none"},
        {"auth": "keys"},
        {"auth": "jwt", "jwt_secret": SECRET},
        {"auth": "jwt", "jwt_public_key": public_pem("RS256")},
        {"auth": "jwt", "jwt_public_key": public_pem("ES256").replace("\n", "\\n")},
        {"auth": "jwt", "jwt_jwks_url": URL, "jwt_issuer": "https://issuer.example", "jwt_audience": "turnlog"},
    ],
)
def test_complete_settings_are_taken(settings: dict[str, str]) -> None:
    assert load_settings(**settings).auth == settings["auth"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auth": "basic"}, ["TURNLOG_AUTH: "]),
        ({"auth": "jwt"}, ["TURNLOG_AUTH=jwt needs one of TURNLOG_JWT_SECRET", "none of them"]),
        ({"auth": "jwt", "jwt_secret": SECRET, "jwt_jwks_url": URL}, ["JWT_SECRET, TURNLOG_JWT_JWKS_URL"]),
        ({"jwt_secret": SECRET}, ["TURNLOG_JWT_SECRET needs TURNLOG_AUTH=jwt, found TURNLOG_AUTH=none"]),
        ({"auth": "keys", "jwt_jwks_url": URL}, ["TURNLOG_JWT_JWKS_URL needs TURNLOG_AUTH=jwt"]),
        ({"auth": "jwt", "jwt_secret": "short-secret"}, ["TURNLOG_JWT_SECRET: must have at least 32 bytes"]),
        ({"auth": "jwt", "jwt_public_key": "no key at all"}, ["TURNLOG_JWT_PUBLIC_KEY: must be a public key in PEM"]),
        ({"auth": "jwt", "jwt_jwks_url": "file:///etc/passwd"}, ["TURNLOG_JWT_JWKS_URL: should be a URL"]),
        ({"auth": "jwt", "jwt_jwks_url": "https://"}, ["TURNLOG_JWT_JWKS_URL: should be a URL"]),
        ({"auth": "jwt", "jwt_jwks_url": "https://short-secret@i.example:99999/"}, ["should be a URL that starts"]),
        ({"auth": "jwt", "jwt_jwks_url": "https://issuer.example:short-secret/"}, ["should be a URL that starts"]),
        ({"auth": "jwt", "jwt_jwks_url": "https://[short-secret/"}, ["should be a URL that starts with https://"]),
        ({"auth": "jwt", "jwt_secret": SECRET, "jwt_owner_claim": ""}, ["TURNLOG_JWT_OWNER_CLAIM"]),
    ],
)  # fmt: skip
def test_others_stop_the_start_with_a_line_that_shows_no_value(settings: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**settings)
    line = str(refused.value)
    assert "\n" not in line
    assert [word for word in words if word not in line] == [], line
    assert SECRET not in line and "short-secret" not in line and "no key at all" not in line


def test_a_key_that_is_not_a_strong_public_one_is_refused() -> None:
    private = private_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    weak = pem(rsa.generate_private_key(65537, 1024).public_key())
    other_curve = pem(ec.generate_private_key(ec.SECP384R1()).public_key())
    for key in (private, weak, other_curve):
        with pytest.raises(SettingsError, match="TURNLOG_JWT_PUBLIC_KEY: must be") as refused:
            load_settings(auth="jwt", jwt_public_key=key)
        assert "PRIVATE" not in str(refused.value)
    assert SECRET not in repr(load_settings(auth="jwt", jwt_secret=SECRET))
