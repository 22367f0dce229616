"""The first check of a request, and the headers for pages of other origins."""

import re
from collections.abc import Callable
from functools import partial

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import NOT_FOUND, ProblemError, problem_response
from api.http.same_machine import refusal
from api.network.allowed_hosts import AllowedHosts
from api.settings import Settings

# One path has one spelling, so that a rule of a proxy about a path holds for all requests that reach its route. An
# encoded slash would separate like a slash, and the pattern of a route would overlook a line end behind it.
_OTHER_SPELLING = re.compile(rb"%(?:2f|0a)", re.IGNORECASE)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EXPOSED_HEADERS = ("Turnlog-Position", "Turnlog-Behind", "ETag", "Retry-After", "WWW-Authenticate", "Allow")

Refusal = Callable[[Scope], ProblemError | None]
"""Returns the problem of a request that is refused, None if it may pass."""


class Admission:
    """ASGI middleware that refuses requests."""

    def __init__(self, app: ASGIApp, refusal: Refusal) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        problem = self._refusal(scope) if scope["type"] == "http" else None
        await (self._app if problem is None else problem_response(problem))(scope, receive, send)


def refusal_for(settings: Settings) -> Refusal:
    """Return the check of requests.

    Without authentication it lets in this machine alone. With it, `Origin` is no ground for a refusal, because a
    browser adds no bearer token to the requests of a page.
    """
    if settings.auth != "none":
        return _with_one_spelling(AllowedHosts(settings.allowed_hosts).refusal)
    origins = frozenset(origin.encode() for origin in settings.cors_origins or ())
    return _with_one_spelling(partial(refusal, allowed=origins))


def _with_one_spelling(check: Refusal) -> Refusal:
    def refusal(scope: Scope) -> ProblemError | None:
        raw_path = scope.get("raw_path") or b""
        if b"%" in raw_path and _OTHER_SPELLING.search(raw_path):
            return check(scope) or ProblemError(NOT_FOUND, "Not Found")
        return check(scope)

    return refusal


def with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return the application as pages of the allowed origins can use it."""
    if not settings.cors_origins:
        return app
    # Any header may be sent: clients add their own, and none is trusted because of its name. Cookies are not used.
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=METHODS,
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )
