"""The keys that verify JSON Web Tokens, each with its one algorithm."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from pydantic import BaseModel, ValidationError

MIN_SECRET_BYTES = 32
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""A larger key would take milliseconds of processor time for each token."""

_ALGORITHM_OF_KTY = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_ALGORITHMS = get_default_algorithms()


class VerifyingKey(NamedTuple):
    """A key, and the only algorithm that it verifies.

    A token cannot choose another one.
    """

    algorithm: str
    key: Any


class _KeySetContent(BaseModel):
    keys: list[dict[str, Any]]


def secret_key(secret: str) -> VerifyingKey:
    """Return the key of HS256.

    Raises:
        ValueError: the secret is too short.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
    return VerifyingKey("HS256", secret.encode())


def public_key(pem: str) -> VerifyingKey:
    r"""Return a public key in PEM, in which a line break may be written as `\n`.

    Raises:
        ValueError: it is not the public key of an algorithm that is supported.
    """
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    return VerifyingKey(_algorithm_of(key), key)


def keys_of(content: bytes) -> dict[str | None, VerifyingKey]:
    """Return the usable keys of a JSON Web Key Set by their `kid`.

    Private and symmetric keys, keys for encryption and unknown kinds are left out. A set with one usable key also has
    it as None, for tokens without `kid`.

    Raises:
        ValueError: it is not a key set.
    """
    try:
        listed = _KeySetContent.model_validate_json(content).keys
    except ValidationError:
        raise ValueError("it is not a JSON Web Key Set") from None
    found = [(jwk.get("kid"), key) for jwk in listed if (key := _key_of(jwk))]
    keys: dict[str | None, VerifyingKey] = {kid: key for kid, key in found if isinstance(kid, str)}
    if len(found) == 1:
        keys[None] = found[0][1]
    return keys


def _key_of(jwk: Mapping[str, Any]) -> VerifyingKey | None:
    kty = jwk.get("kty")
    algorithm = _ALGORITHM_OF_KTY.get(kty) if isinstance(kty, str) else None
    if algorithm is None or jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm:
        return None
    if "d" in jwk:  # a private key, which everybody can read there
        return None
    try:
        key = _ALGORITHMS[algorithm].from_jwk(json.dumps(jwk))
        return VerifyingKey(algorithm, key) if _algorithm_of(key) == algorithm else None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        return None


def _algorithm_of(key: Any) -> str:
    """Return the algorithm of a public key.

    Raises:
        ValueError: there is none that is supported.
    """
    if isinstance(key, RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(f"must be an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    raise ValueError("must be a public key of RSA, of P-256 or of Ed25519")
