"""The fast path to the JSON routes, past FastAPI's middleware and router."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import ProblemError
from api.http.route import JSONRoute

PREFIX = "/v1/"


class FastPath:
    """ASGI middleware that calls a JSON route directly.

    Every other request goes to FastAPI, which has the same routes and gives the same answers. A request for
    which `refusal` returns a problem goes there as well, and is refused there.
    """

    def __init__(self, app: FastAPI, refusal: Callable[[Scope], ProblemError | None]) -> None:
        self._app = app
        self._refusal = refusal
        self._routes: dict[str, list[JSONRoute]] = {}
        for route in app.routes:
            if isinstance(route, JSONRoute):
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the matching route, or FastAPI."""
        await self._find_app(scope)(scope, receive, send)

    def _find_app(self, scope: Scope) -> ASGIApp:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            for route in self._routes.get(scope["method"], ()):
                if (found := route.path_regex.match(scope["path"])) and self._refusal(scope) is None:
                    scope.update(app=self._app, path_params=found.groupdict(), route=route)
                    return route.app
        return self._app
