"""The caller of a request: its credentials, its rights, and its owner."""

from collections.abc import Mapping
from urllib.parse import unquote

from api.auth.access import AGENTS, READS_EVERYBODY, Access, check_rights
from api.auth.authenticator import Authenticator
from api.auth.errors import ForbiddenError, OwnerRequiredError, invalid_credentials
from api.auth.identity import Identity, check_owner_id

OWNER = "Turnlog-Owner"

_OWNER = OWNER.lower().encode()
_ACCESS_TOKEN = b"access_token="


async def identify(
    authenticator: Authenticator, access: Access, headers: Mapping[bytes, bytes], access_token: str | None
) -> Identity:
    """Return the identity of a caller who may use a route.

    Raises:
        UnauthenticatedError: the caller gave no credentials, or none that work.
        ForbiddenError: the caller's role may not use the route, or not name an owner.
        OwnerRequiredError: a service names no owner.
        InvalidOwnerError: the caller names an owner that cannot exist.
        IdentityProviderError: tokens cannot be verified now.
        StoreUnavailableError: the database does not answer.
    """
    if access is Access.PUBLIC:
        return authenticator.stranger
    identity = await authenticator.identify(headers, access_token)
    check_rights(identity, access)
    named = headers.get(_OWNER)
    if identity.role == "service" and not identity.delegated:
        return identity._replace(owner_id=_owner_of(named))
    if named is None:
        return identity
    if identity.role in READS_EVERYBODY and access in AGENTS:
        return identity._replace(owner_id=_owner_of(named), named_by=identity.owner_id)
    raise ForbiddenError(f"Only a service may send {OWNER}, and on the routes of agents an auditor or an admin.")


def split_access_token(query: bytes) -> tuple[bytes, str | None]:
    """Return a query without its short token, and the token.

    Raises:
        UnauthenticatedError: there are several.
    """
    if _ACCESS_TOKEN not in query:
        return query, None
    parts = query.split(b"&")
    tokens = [part for part in parts if part.startswith(_ACCESS_TOKEN)]
    if len(tokens) > 1:
        raise invalid_credentials()
    rest = b"&".join(part for part in parts if part not in tokens)
    return rest, unquote(tokens[0][len(_ACCESS_TOKEN) :].decode("latin-1")) if tokens else None


def _owner_of(named: bytes | None) -> str:
    """Return the owner that a caller names.

    Raises:
        OwnerRequiredError: it names none.
        InvalidOwnerError: it names one that cannot exist.
    """
    if named is None:
        raise OwnerRequiredError(f"A service must send {OWNER}: the owner whose conversations it means.")
    # Bytes that are not UTF-8 become characters that no owner's id may have.
    return check_owner_id(named.decode("utf-8", "surrogateescape"))
