"""The errors of authentication, one tree.

AuthenticationError
├── UnauthenticatedError         the caller gave no credentials, or none that work
├── ForbiddenError               the caller's role may not do this
├── IdentityProviderError        the server that holds the keys of JSON Web Tokens does not answer
├── KeyNotFoundError             there is no key with this id
├── OwnerRequiredError           a service named no owner
└── InvalidOwnerError            this is not the id of an owner
"""


class AuthenticationError(Exception):
    """The root of the errors of authentication."""


class UnauthenticatedError(AuthenticationError):
    """The caller gave no credentials, or none that work.

    The message never says which part of the credentials was wrong.
    """


class ForbiddenError(AuthenticationError):
    """The caller's role may not do this."""


class IdentityProviderError(AuthenticationError):
    """The server that holds the keys of JSON Web Tokens does not answer."""


class KeyNotFoundError(AuthenticationError):
    """There is no key with this id."""


class OwnerRequiredError(AuthenticationError):
    """A service named no owner."""


class InvalidOwnerError(AuthenticationError):
    """This is not the id of an owner."""


def no_credentials() -> UnauthenticatedError:
    """Return the error of a caller without credentials."""
    return UnauthenticatedError("Authentication is required: Authorization: Bearer <key or token>.")


def invalid_credentials() -> UnauthenticatedError:
    """Return the error of credentials that do not work, whatever is wrong with them."""
    return UnauthenticatedError("The credentials are not valid.")
