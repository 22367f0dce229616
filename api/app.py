"""The ASGI application that is served: routes, middleware and services."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from api.auth.access import PUBLIC_PAGES, UndeclaredRouteError
from api.http.bodies import BodyMemory
from api.http.connection_tracking import ConnectionTracking
from api.http.fast_path import FastPath
from api.http.problems import handle_http_exception, handle_unexpected
from api.http.route import JSONRoute, with_heads
from api.http.same_machine import SameMachine
from api.routes import (
    client_turns,
    conversations,
    events,
    health,
    index,
    messages,
    metrics,
    projections,
    tokens,
    turns,
)
from api.routes.index import VERSION
from api.services import Services, open_services
from api.settings import Settings
from eventlog.errors import StoreUnavailableError
from eventlog.retry import START_PATIENCE_S, START_PAUSE_S, equal_pauses, retry

# A request tries the routes in this order: the busiest come first. An included router would try each route twice.
_MODULES = (messages, turns, client_turns, conversations, events, tokens, projections, health, metrics, index)
_ROUTES = with_heads([route for module in _MODULES for route in module.router.routes])


class TurnlogApplication:
    """The ASGI application, as a server and as tests call it.

    A request passes the connection tracking, then the fast path, which calls a JSON route or else `fastapi`.
    """

    def __init__(self, fastapi: FastAPI) -> None:
        self.fastapi = fastapi
        # Tracking is outermost: a connection must learn of every answer, also of those that FastAPI gives by itself.
        self._app = ConnectionTracking(FastPath(fastapi))

    @property
    def services(self) -> Services:
        """The services behind the routes, from the start of the lifespan to its end."""
        return self.fastapi.state.services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan."""
        await self._app(scope, receive, send)


def create_app(settings: Settings, conninfo: str) -> TurnlogApplication:
    """Return the application on the log in a database.

    Its lifespan opens and closes the services. The start fails once the database has not answered for 15 s.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:

            async def opened() -> Services:
                return await stack.enter_async_context(open_services(settings, conninfo))

            pauses_s = equal_pauses(START_PAUSE_S, START_PATIENCE_S)
            app.state.services = await retry(opened, StoreUnavailableError, pauses_s)
            yield

    fastapi = FastAPIOffline(
        title="Turnlog",
        version=VERSION,
        lifespan=lifespan,
        routes=_ROUTES,
        middleware=[Middleware(SameMachine)],
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: handle_http_exception, Exception: handle_unexpected},
    )
    fastapi.state.body_memory = BodyMemory()
    for page in ("/docs", "/docs/oauth2-redirect"):
        (route,) = (route for route in fastapi.routes if isinstance(route, APIRoute) and route.path == page)
        fastapi.add_api_route(page, route.endpoint, methods=["HEAD"], include_in_schema=False)
    for route in fastapi.routes:
        if not isinstance(route, JSONRoute) and getattr(route, "path", None) not in PUBLIC_PAGES:
            raise UndeclaredRouteError(f"{route} is neither a JSONRoute nor in api.auth.access.PUBLIC_PAGES.")
    return TurnlogApplication(fastapi)
