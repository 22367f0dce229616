"""Access from this machine alone, and not from web pages of other sites.

It protects a server that does not authenticate its callers. A browser on this machine reaches loopback for any page
that it shows. A page whose name resolves to 127.0.0.1 (DNS rebinding) sends that name as `Host`. A page that writes
without reading the answer is identified by `Origin` (https://fetch.spec.whatwg.org/#origin-header) and
`Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/).
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import BAD_REQUEST, ProblemError, ProblemKind, problem_response

_FORBIDDEN = ProblemKind(403, "FORBIDDEN")
_LOCAL_HOST = re.compile(rb"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::(\d{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(rb"(https?)://" + _LOCAL_HOST.pattern, re.IGNORECASE)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({b"same-origin", b"none"})


class SameMachine:
    """ASGI middleware that refuses other host names and writes of other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        problem = refusal(scope) if scope["type"] == "http" else None
        await (self._app if problem is None else problem_response(problem))(scope, receive, send)


def refusal(scope: Scope) -> ProblemError | None:
    """Return the problem of a request that is refused, None if it may pass."""
    origins: list[bytes] = []
    sites: list[bytes] = []
    host: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"host":
            if not _LOCAL_HOST.fullmatch(value):
                return ProblemError(_FORBIDDEN, "The Host header must be localhost, 127.0.0.1 or [::1].")
            if host is not None:
                return ProblemError(BAD_REQUEST, "There must be one Host header.")
            host = value
        elif name == b"origin":
            origins.append(value)
        elif name == b"sec-fetch-site":
            sites.append(value)
    if host is None and scope["http_version"] != "1.0":
        return ProblemError(BAD_REQUEST, "There must be one Host header.")
    if scope["method"] in _SAFE_METHODS or not (origins or sites):
        return None
    own = _origin_of(scope["scheme"].encode() + b"://" + (host or b""))
    # Another port is another site: any user of this machine may serve pages there.
    if not _OWN_SITES.issuperset(sites) or any(own is None or _origin_of(origin) != own for origin in origins):
        return ProblemError(_FORBIDDEN, "A page of another site cannot write.")
    return None


def _origin_of(url: bytes) -> tuple[bytes, bytes, int] | None:
    """Return scheme, host and port of an origin of this machine, None for any other."""
    found = _ORIGIN.fullmatch(url)
    if found is None:
        return None
    scheme, host, port = found.groups()
    return scheme.lower(), host.lower(), int(port or _DEFAULT_PORTS[scheme.lower()])
