"""The observation of requests: metrics, access log, trace and the context of logs."""

import re
from collections.abc import Awaitable
from time import perf_counter
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from api.telemetry.access_log import AccessLog
from api.telemetry.meters import Meters
from api.telemetry.traces import Traces
from eventlog.clock import new_hex_id

UNMATCHED = "unmatched"
"""The route of a request that matches none."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,255}")
_EVENT_STREAM = b"text/event-stream"


def note_caller(scope: Scope, owner: str, conversation_id: UUID | None) -> None:
    """Add the owner and the conversation of a request to its log lines."""
    scope["turnlog.owner"] = owner
    if conversation_id is None:
        bind_contextvars(owner=owner)
    else:
        scope["turnlog.conversation_id"] = conversation_id
        bind_contextvars(owner=owner, conversation_id=conversation_id)


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request matched."""
    route = scope.get("route")
    if route is not None:
        return route.path
    # A page of the framework. Files are below one root, and the other pages have no parameters.
    return (scope.get("root_path") or scope["path"]) if "endpoint" in scope else UNMATCHED


def method_of(scope: Scope) -> str:
    """Return the method of a request, `OTHER` for one that HTTP does not define."""
    return scope["method"] if scope["method"] in _METHODS else "OTHER"


class ObservedRequests:
    """ASGI middleware that observes every request, from the outside.

    It gives each request an id: the client's `X-Request-Id`, or a new one that the application finds there.
    """

    def __init__(self, app: ASGIApp, meters: Meters, access_log: AccessLog | None, traces: Traces | None) -> None:
        self._app = app
        self._meters = meters
        self._access_log = access_log
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and observe the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _identify(scope)
        bind_contextvars(request_id=request_id)
        observed = _ObservedRequest(self._meters, scope, send)
        try:
            if self._traces is None:
                await self._app(scope, receive, observed.send)
            else:
                with self._traces.request(scope) as span:
                    try:
                        await self._app(scope, receive, observed.send)
                    finally:
                        span.set_route(method_of(scope), route_of(scope), observed.status, request_id)
        finally:
            observed.end()
            if self._access_log is not None:
                self._access_log.write(scope, method_of(scope), route_of(scope), request_id, observed)


class _ObservedRequest:
    """One request while it is answered."""

    __slots__ = ("_begun", "_meters", "_open_stream", "_scope", "_send", "began", "position", "status")

    def __init__(self, meters: Meters, scope: Scope, send: Send) -> None:
        self.began = perf_counter()
        self.status = 500  # unless the application answers
        self.position: bytes | None = None
        self._meters = meters
        self._scope = scope
        self._send = send
        self._open_stream = False
        self._begun = False

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._begin(message)
        return self._send(message)

    def end(self) -> None:
        if not self._begun:
            self._count()
        if self._open_stream:
            self._meters.open_streams.dec()

    def _begin(self, message: Message) -> None:
        self.status = message["status"]
        for name, value in message["headers"]:
            if name == b"turnlog-position":
                self.position = value
            elif name == b"content-type" and value.startswith(_EVENT_STREAM) and self._scope["method"] != "HEAD":
                self._open_stream = True
                self._meters.open_streams.inc()
        self._begun = True
        self._count()

    def _count(self) -> None:
        scope = self._scope
        self._meters.request(route_of(scope), method_of(scope), self.status, perf_counter() - self.began)


def _identify(scope: Scope) -> str:
    """Return the id of a request, which the application finds in its headers."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID_HEADER:
            if _REQUEST_ID.fullmatch(value):
                return value.decode()
            break
    new = new_hex_id()
    # The first header of a name counts.
    scope["headers"] = [(_REQUEST_ID_HEADER, new.encode()), *scope["headers"]]
    return new
