"""The HTTP application: routes, problems, and the services behind them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from api.http.bodies import BodyRoom
from api.http.problems import handle_http_exception, handle_unexpected
from api.http.route import with_heads
from api.http.same_machine import SameMachine
from api.routes import client_turns, conversations, events, health, index, messages, metrics, projections, turns
from api.routes.index import VERSION
from api.services import open_services
from api.settings import Settings

_MODULES = (messages, turns, client_turns, conversations, events, projections, health, metrics, index)
_ROUTES = with_heads([route for module in _MODULES for route in module.router.routes])
"""In the order in which a request tries them, the busiest first; an included router would try each route twice."""


def create_app(settings: Settings, conninfo: str) -> FastAPI:
    """Return the application on the log of a database; its services open and close with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_services(settings, conninfo) as services:
            app.state.services = services
            yield

    app = FastAPIOffline(
        title="Turnlog",
        version=VERSION,
        lifespan=lifespan,
        routes=_ROUTES,
        middleware=[Middleware(SameMachine)],
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: handle_http_exception, Exception: handle_unexpected},
    )
    app.state.body_room = BodyRoom()
    for page in ("/docs", "/docs/oauth2-redirect"):
        (route,) = (route for route in app.routes if isinstance(route, APIRoute) and route.path == page)
        app.add_api_route(page, route.endpoint, methods=["HEAD"], include_in_schema=False)
    return app
