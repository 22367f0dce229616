"""Access from this machine alone, and not from web pages of other sites.

It protects a server that does not authenticate its callers. A browser on this machine reaches loopback for any page
that it shows. A page whose name resolves to 127.0.0.1 (DNS rebinding) sends that name as `Host`. A page that writes
without reading the answer is identified by `Origin` (https://fetch.spec.whatwg.org/#origin-header) and
`Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/).
"""

import re
from collections.abc import Collection

from starlette.types import Scope

from api.http.problems import BAD_REQUEST, FORBIDDEN, ProblemError

ONE_HOST = "There must be one Host header."

_LOCAL_HOST = re.compile(rb"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::(\d{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(rb"(https?)://" + _LOCAL_HOST.pattern, re.IGNORECASE)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({b"same-origin", b"none"})


def refusal(scope: Scope, allowed: Collection[bytes] = frozenset()) -> ProblemError | None:
    """Return the problem of a request that is refused, None if it may pass.

    Pages of the `allowed` origins may write.
    """
    origins: list[bytes] = []
    sites: list[bytes] = []
    host: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"host":
            if not _LOCAL_HOST.fullmatch(value):
                return ProblemError(FORBIDDEN, "The Host header must be localhost, 127.0.0.1 or [::1].")
            if host is not None:
                return ProblemError(BAD_REQUEST, ONE_HOST)
            host = value
        elif name == b"origin":
            origins.append(value)
        elif name == b"sec-fetch-site":
            sites.append(value)
    if host is None and scope["http_version"] != "1.0":
        return ProblemError(BAD_REQUEST, ONE_HOST)
    if scope["method"] in _SAFE_METHODS or not (origins or sites):
        return None
    if len(origins) == 1 and origins[0] in allowed:
        return None
    own = _origin_of(scope["scheme"].encode() + b"://" + (host or b""))
    # Another port is another site: any user of this machine may serve pages there.
    if not _OWN_SITES.issuperset(sites) or any(own is None or _origin_of(origin) != own for origin in origins):
        return ProblemError(FORBIDDEN, "A page of another site cannot write.")
    return None


def _origin_of(url: bytes) -> tuple[bytes, bytes, int] | None:
    """Return scheme, host and port of an origin of this machine, None for any other."""
    found = _ORIGIN.fullmatch(url)
    if found is None:
        return None
    scheme, host, port = found.groups()
    return scheme.lower(), host.lower(), int(port or _DEFAULT_PORTS[scheme.lower()])
