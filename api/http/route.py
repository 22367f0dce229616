"""The class of the API's routes.

It reads and validates a request, calls the route's function, and answers every error.

FastAPI's own handler takes a third of the time of a request here, and answers invalid input in several shapes. Its
function signatures and its OpenAPI document are kept.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, get_args, get_origin
from uuid import UUID

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth.access import AUDITED, READS_EVERYBODY, ROUTES, Access, access_of
from api.auth.audit_reads import AuditedRead
from api.auth.credentials import identify, split_access_token
from api.http.call import Call, CallParam, caller_of
from api.http.idempotency import find_repeated
from api.http.problems import error_response
from api.http.read_your_writes import wait_for_position
from api.http.request import HttpRequest, read_headers, read_request
from api.http.requests.query_models import NoQuery
from api.http.sse import EventStream
from api.http.validation import validate_body, validate_path_id, validate_query
from api.services import Services
from api.telemetry.observed_requests import note_caller
from domain.errors import DomainError
from eventlog.errors import IdempotencyKeyTakenError, StoreUnavailableError

READ_METHODS = frozenset({"GET", "HEAD"})
LIMITED_PATHS = "/v1/"
"""Health, metrics and documents do not count against an owner's limit."""
MAX_ID_CHARS = 256
"""The most characters of an id that are recorded of a read. No id has so many."""

_IDS = frozenset({"conversation_id", "agent_id"})


class Signature(NamedTuple):
    """The parameters of a route's function, by kind."""

    ids: list[str]
    names: list[str]
    body: tuple[str, TypeAdapter[Any]] | None
    query: tuple[str, type[BaseModel]] | None
    call: str | None


class JSONRoute(APIRoute):
    """A route that passes the parts of a request to its function.

    The function may take the call, ids and names of the path, one body model and one query model. The table `access`
    says what the route needs of its caller. `needs` is its line of that table, and `streams` says whether its answer is
    always an event stream.
    """

    access: ClassVar[Mapping[str, Access]] = ROUTES

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.needs = access_of(self.methods, path, self.access)
        self.signature = _read_signature(endpoint)
        self.streams = options.get("response_class") is EventStream
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except asyncio.CancelledError:
            # The server stops before the answer is known. Without a response, uvicorn would send a 500.
            response = error_response(StoreUnavailableError("The server is being stopped."))
        except Exception as error:  # noqa: BLE001 - a logged boundary of the process
            response = error_response(error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        services: Services = scope["app"].state.services
        headers, query, token = read_headers(scope), scope["query_string"], None
        if self.needs is Access.STREAMS:
            query, token = split_access_token(query)
        # The body of a caller who is not known, or who is over the limit, is not read.
        identity = await identify(services.authenticator, self.needs, headers, token)
        if services.request_limit is not None and scope["path"].startswith(LIMITED_PATHS):
            await services.request_limit.spend(identity.limited_owner)
        request = await read_request(scope, receive, headers, query)
        arguments = _arguments(self.signature, request, scope["path_params"])
        # A stranger must not learn from the wait how far the log is.
        if request.method in READ_METHODS and self.needs is not Access.PUBLIC:
            await wait_for_position(request, services.progress)
        if (signature_call := self.signature.call) is None:
            return await self.endpoint(**arguments)
        caller = caller_of(request, identity)
        note_caller(scope, caller.owner_id, arguments.get("conversation_id"))
        repeated = await find_repeated(services.log, caller) if self.needs is Access.WRITES else None
        call = Call(services, request, caller, identity, repeated)

        async def answer() -> Response:
            if identity.role in READS_EVERYBODY and self.needs in AUDITED:
                read = _audited_read(self.path, self.signature, call, arguments)
                await services.audit_reads.record(caller.actor, caller.request_id, read)
            response = await self._answer_call(signature_call, call, arguments)
            if isinstance(response, EventStream) and identity.role != "local":
                response.end_with(lambda: services.authenticator.wait_for_end(identity))
            return response

        if services.stream_limit is not None and self._opens_stream(request, arguments):
            return await services.stream_limit.hold(caller.owner_id, answer)
        return await answer()

    def _opens_stream(self, request: HttpRequest, arguments: dict[str, Any]) -> bool:
        body = arguments[self.signature.body[0]] if self.signature.body else None
        return request.method != "HEAD" and (self.streams or getattr(body, "stream", False))

    async def _answer_call(self, parameter: str, call: Call, arguments: dict[str, Any]) -> Response:
        try:
            return await self.endpoint(**arguments, **{parameter: call})
        except (DomainError, IdempotencyKeyTakenError):
            # The same request may have arrived twice at once. If the other one was recorded first, repeat its answer.
            if call.repeated or self.needs is not Access.WRITES:
                raise
            if (repeated := await find_repeated(call.services.log, call.caller)) is None:
                raise
            return await self.endpoint(**arguments, **{parameter: call._replace(repeated=repeated)})


def with_heads(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Return the routes, and a HEAD route for each JSON route that answers GET.

    The server sends no body of an answer to HEAD.
    """
    # Each HEAD is a route of its own, because the OpenAPI document would otherwise name an operation twice.
    heads = [
        JSONRoute(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
        for route in routes
        if isinstance(route, JSONRoute) and "GET" in (route.methods or ())
    ]
    return [*routes, *heads]


def _read_signature(endpoint: Callable[..., Any]) -> Signature:
    ids: list[str] = []
    names: list[str] = []
    body = query = call = None
    for name, parameter in inspect.signature(endpoint, eval_str=True).parameters.items():
        annotation = parameter.annotation
        if annotation == CallParam:
            call = name
        elif annotation is UUID:
            ids.append(name)
        elif annotation is str:
            names.append(name)
        elif get_origin(annotation) is not None:
            query = (name, get_args(annotation)[0])
        else:
            body = (name, TypeAdapter(annotation))
    return Signature(ids, names, body, query, call)


def _arguments(signature: Signature, request: HttpRequest, path: dict[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {name: validate_path_id(name, path[name]) for name in signature.ids}
    arguments |= {name: path[name] for name in signature.names}
    if signature.body:
        name, adapter = signature.body
        arguments[name] = validate_body(request, adapter)
    if signature.query:
        name, model = signature.query
        arguments[name] = validate_query(request, model)
    elif request.query:
        validate_query(request, NoQuery)
    return arguments


def _audited_read(route: str, signature: Signature, call: Call, arguments: dict[str, Any]) -> AuditedRead:
    """Return what is recorded of a request, which is nothing that could be content."""
    query = arguments[signature.query[0]] if signature.query else None
    named = _named_parameters(query) if query is not None else {}
    # Any bytes may stand in a path where a name is expected. The log cannot hold NUL.
    ids = {name: arguments[name][:MAX_ID_CHARS].replace("\0", "\N{REPLACEMENT CHARACTER}") for name in signature.names}
    ids |= {name: str(arguments[name]) for name in signature.ids}
    ids |= {name: str(value) for name, value in named.items() if name in _IDS}
    # The key of a filter `metadata.KEY` is chosen by a client, and is not recorded.
    by_metadata = any(name.startswith("metadata.") for name in (query and query.model_extra) or ())
    parameters = (*sorted(named), *(["metadata"] if by_metadata else []))
    return AuditedRead(call.request.method, route, ids, named.get("owner_id") or call.named_owner, parameters)


def _named_parameters(query: BaseModel) -> dict[str, Any]:
    """Return the parameters of a query, without those whose names a client chooses."""
    return {name: getattr(query, name) for name in type(query).model_fields if name in query.model_fields_set}
