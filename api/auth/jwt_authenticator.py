"""Opens the authenticator by JSON Web Tokens with what verifies them."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from api.auth.authenticator import Authenticator, by_tokens
from api.auth.json_web_tokens import FixedKey, JWTVerifier, TokenRules
from api.auth.jwks import KeySet
from api.auth.verifying_keys import public_key, secret_key
from eventlog.db.database import Database


def open_jwt(
    stack: AsyncExitStack,
    database: Database,
    rules: TokenRules,
    *,
    jwks_url: str | None,
    public_pem: str | None,
    secret: str | None,
    on_key_set_failure: Callable[[], None],
) -> Authenticator:
    """Return an authenticator by tokens.

    One of `jwks_url`, `public_pem` and `secret` is given. `on_key_set_failure` is called when the server of the key set
    does not answer with one.
    """
    if jwks_url is not None:
        key_set = KeySet(jwks_url, on_key_set_failure)
        stack.push_async_callback(key_set.close)
        verifier = JWTVerifier(key_set, rules)
        key_set.on_change(verifier.forget)
    elif public_pem is not None:
        verifier = JWTVerifier(FixedKey(public_key(public_pem)), rules)
    else:
        assert secret is not None
        verifier = JWTVerifier(FixedKey(secret_key(secret)), rules)
    return by_tokens(database, verifier, "jwt")
