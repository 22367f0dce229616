"""The fast path to the JSON routes: past FastAPI's middleware and router, which cost more than they do here."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.route import JSONRoute
from api.http.same_machine import refusal

PREFIX = "/v1/"


class FastPath:
    """ASGI middleware that calls a JSON route directly, and FastAPI for every other request.

    FastAPI has the same routes and gives the same answers. A request that no route matches, or that `SameMachine`
    would refuse, goes to FastAPI, which makes the refusal.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
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
                if (found := route.path_regex.match(scope["path"])) and refusal(scope) is None:
                    scope.update(app=self._app, path_params=found.groupdict())
                    return route.app
        return self._app
