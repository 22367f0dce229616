"""Who may call while nobody is authenticated: programs of this machine, and no web page of another site.

A browser on this machine reaches loopback for any page it shows. A page whose name was pointed at 127.0.0.1 (DNS
rebinding) sends that name as `Host`; one that only writes, and does not read the answer, is named by `Sec-Fetch-Site`
(https://www.w3.org/TR/fetch-metadata/).
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Kind, ProblemError, problem_response

_FORBIDDEN = Kind(403, "FORBIDDEN")
_LOCAL_HOST = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class SameMachine:
    """Lets a request pass whose every `Host` is a name of this machine, unless another site's page writes with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or answer 403."""
        reason = refusal(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(ProblemError(_FORBIDDEN, reason))(scope, receive, send)


def refusal(scope: Scope) -> str | None:
    """Return why a request may not pass, None if it may."""
    for name, value in scope["headers"]:
        if name == b"host" and not _LOCAL_HOST.fullmatch(value):
            return "The Host header must be localhost, 127.0.0.1 or [::1]."
        if name == b"sec-fetch-site" and value == b"cross-site" and scope["method"] not in _READING:
            return "A page of another site cannot write."
    return None
