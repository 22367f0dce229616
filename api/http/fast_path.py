"""The short way to the JSON routes: around the framework's middleware and router, which cost more than they do."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.route import JSONRoute
from api.http.same_machine import refusal

PREFIX = "/v1/"


class Shortcut:
    """Hands a request for a JSON route to the route, and any other to the application, which knows these routes too.

    What the application would refuse goes there as well, so that it says how.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._routes: dict[str, list[JSONRoute]] = {}
        for route in app.routes:
            if isinstance(route, JSONRoute):
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the request answered."""
        await self._answerer(scope)(scope, receive, send)

    def _answerer(self, scope: Scope) -> ASGIApp:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            for route in self._routes.get(scope["method"], ()):
                if (found := route.path_regex.match(scope["path"])) and refusal(scope) is None:
                    scope.update(app=self._app, path_params=found.groupdict())
                    return route.app
        return self._app
