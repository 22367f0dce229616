"""Identities: who calls, in which role, and whose conversations are meant."""

from typing import Literal, NamedTuple, get_args
from uuid import UUID

from api.auth.errors import InvalidOwnerError

MAX_OWNER_CHARS = 256

GrantedRole = Literal["user", "service", "auditor", "admin"]
"""A role that a key or a token can grant."""
Role = Literal[GrantedRole, "local", "anonymous"]
"""`local` is everybody without authentication, `anonymous` a caller of a public route with it."""

ROLES: tuple[GrantedRole, ...] = get_args(GrantedRole)


class Identity(NamedTuple):
    """An authenticated caller.

    `owner_id` is the owner whose conversations are meant, and `actor` acts for it. `key_id` is the key that was given,
    None for a token. `expires_at` is when the credentials end, in seconds since 1970, None if they do not. `delegated`
    says that a short token was given, which names its owner by itself. `named_by` is the auditor or the admin that
    names another owner, None for everybody else.
    """

    owner_id: str
    actor: str
    role: Role
    key_id: UUID | None = None
    expires_at: float | None = None
    delegated: bool = False
    named_by: str | None = None

    @property
    def limited_owner(self) -> str:
        """The owner against whose limits a request counts."""
        # A service acts for the owner that it names. An auditor only looks, and must not use up what the owner may do.
        return self.named_by or self.owner_id


LOCAL = Identity("local", "user:local", "local")
"""Every caller of a server without authentication."""

ANONYMOUS = Identity("", "anonymous", "anonymous")
"""A caller of a public route of a server with authentication."""


def granted(role: GrantedRole, owner_id: str, key_id: UUID | None, expires_at: float | None) -> Identity:
    """Return the identity that a key or a token grants."""
    return Identity(owner_id, f"{role}:{owner_id}", role, key_id, expires_at)


def check_owner_id(owner_id: str) -> str:
    """Return the id of an owner.

    Raises:
        InvalidOwnerError: it is not 1 to 256 visible characters.
    """
    # `isprintable` also refuses what is invisible: control and format characters, separators and surrogates.
    if not 0 < len(owner_id) <= MAX_OWNER_CHARS or not owner_id.isprintable() or " " in owner_id:
        raise InvalidOwnerError(f"An owner's id has 1 to {MAX_OWNER_CHARS} visible characters and no space.")
    return owner_id
