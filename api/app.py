"""The ASGI application that is served: routes, middleware and services."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from api.auth.access import PUBLIC_PAGES, UndeclaredRouteError
from api.document.document import build_document, check_described
from api.http.bodies import BodyMemory
from api.http.connection_tracking import ConnectionTracking
from api.http.fast_path import FastPath
from api.http.problems import handle_http_exception, handle_unexpected
from api.http.route import JSONRoute, with_heads
from api.network.admission import Admission, refusal_for, with_cors
from api.routes import (
    agents,
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
from api.services import Services, StoreCondition, open_services
from api.settings import Settings
from api.telemetry.access_log import open_access_log
from api.telemetry.meters import Meters
from api.telemetry.observed_requests import ObservedRequests
from api.telemetry.traces import Traces, open_traces
from eventlog.errors import StoreUnavailableError
from eventlog.retry import retry, start_pauses

# A request tries the routes in this order: the busiest come first. An included router would try each route twice.
_MODULES = (messages, turns, client_turns, conversations, agents, events, tokens, projections, health, metrics, index)
_ROUTES = with_heads([route for module in _MODULES for route in module.router.routes])


class TurnlogApplication:
    """The ASGI application, as a server and as tests call it.

    A request passes the connection tracking, the observation, then the CORS middleware if there are origins, then the
    fast path, which calls a JSON route or else `fastapi`.
    """

    def __init__(self, fastapi: FastAPI, settings: Settings, meters: Meters, traces: Traces | None) -> None:
        self.fastapi = fastapi
        answering = with_cors(FastPath(fastapi, refusal_for(settings)), settings)
        observed = ObservedRequests(answering, meters, open_access_log(), traces)
        # Tracking is outermost: a connection must learn of every answer, also of those that FastAPI gives by itself.
        self._app = ConnectionTracking(observed)

    @property
    def services(self) -> Services:
        """The services behind the routes, from the start of the lifespan to its end."""
        return self.fastapi.state.services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan."""
        await self._app(scope, receive, send)


def create_app(
    settings: Settings,
    conninfo: str,
    store_condition: Callable[[], StoreCondition] = lambda: "unreachable",
    traces: Traces | None = None,
) -> TurnlogApplication:
    """Return the application on the log in a database.

    Its lifespan opens and closes the services. The start fails once the database has not answered for 15 s. Without
    `traces`, those of the environment are used, if any.
    """
    meters, traces = Meters(settings.model), traces or open_traces()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            if traces:
                stack.push_async_callback(asyncio.to_thread, traces.shut_down)

            async def opened() -> Services:
                services = open_services(settings, conninfo, store_condition, meters, traces)
                return await stack.enter_async_context(services)

            app.state.services = await retry(opened, StoreUnavailableError, start_pauses())
            yield

    fastapi = FastAPIOffline(
        title="Turnlog",
        version=VERSION,
        lifespan=lifespan,
        routes=_ROUTES,
        middleware=[Middleware(Admission, refusal=refusal_for(settings))],
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: handle_http_exception, Exception: handle_unexpected},
    )
    fastapi.state.body_memory = BodyMemory()
    for page in ("/docs", "/docs/oauth2-redirect"):
        (route,) = (route for route in fastapi.routes if isinstance(route, APIRoute) and route.path == page)
        fastapi.add_api_route(page, route.endpoint, methods=["HEAD"], include_in_schema=False)
    for route in fastapi.routes:
        if isinstance(route, JSONRoute):
            if route.include_in_schema:  # a HEAD is described with its GET
                check_described(route)
        elif getattr(route, "path", None) not in PUBLIC_PAGES:
            raise UndeclaredRouteError(f"{route} is neither a JSONRoute nor in api.auth.access.PUBLIC_PAGES.")
    # FastAPI's documentation extends its document in this way ("Extending OpenAPI").
    fastapi.openapi = cache(partial(build_document, VERSION, fastapi.routes))
    return TurnlogApplication(fastapi, settings, meters, traces)
