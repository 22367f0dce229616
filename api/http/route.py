"""The route class of the API: reads, limits and validates a request itself, so that bad input has one exact answer.

FastAPI's own handler costs a third of a request here and answers wrong input in several shapes; its signatures and
OpenAPI document are kept.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin
from uuid import UUID

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from api.http.call import Call, CallParam, caller_of, find_repeated, wait_for_position
from api.http.problems import VALIDATION_FAILED, ProblemError, error_response, validation_problem
from api.http.request import Incoming, read_request
from api.routes.inputs import CONTENT_FORMS, NoQuery
from domain.content import BLOCK_TYPES
from domain.errors import ConversationNotFoundError, DomainError, MessageNotFoundError, TurnNotFoundError
from eventlog.errors import IdempotencyKeyTakenError, StoreUnavailableError

_NOT_FOUND: Mapping[str, type[DomainError]] = {
    "conversation_id": ConversationNotFoundError,
    "message_id": MessageNotFoundError,
    "turn_id": TurnNotFoundError,
}


READING = frozenset({"GET", "HEAD"})


class _Signature(NamedTuple):
    """What a route's function takes, by parameter name."""

    ids: list[str]
    names: list[str]
    body: tuple[str, TypeAdapter[Any]] | None
    query: tuple[str, type[BaseModel]] | None
    call: str | None


class JSONRoute(APIRoute):
    """A route whose function takes any of: the call, ids and names of the path, one body model, one query model."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._signature = _read_signature(endpoint)
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except asyncio.CancelledError:
            # The server ends before the answer is known. Without one, uvicorn would say 500.
            response = error_response(StoreUnavailableError("The server is being stopped."))
        except Exception as error:  # noqa: BLE001 - a logged boundary of the process
            response = error_response(error)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        signature, services = self._signature, scope["app"].state.services
        request = await read_request(scope, receive)
        arguments = _arguments(signature, request, scope)
        if request.method in READING:
            await wait_for_position(request, services)
        if signature.call is None:
            return await self.endpoint(**arguments)
        caller = caller_of(request)
        call = Call(services, request, caller, await find_repeated(services, caller))
        try:
            return await self.endpoint(**arguments, **{signature.call: call})
        except (DomainError, IdempotencyKeyTakenError):
            # Where the same request arrived twice at once and the other was first, answer as it was answered.
            repeated = None if call.repeated else await find_repeated(services, caller)
            if repeated is None:
                raise
            return await self.endpoint(**arguments, **{signature.call: call._replace(repeated=repeated)})


def with_heads(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Return the routes and, for each JSON route that is a GET, one of HEAD: it answers the same, and the server sends
    no body of it.

    It is a route of its own as the OpenAPI document would name an operation twice.
    """
    heads = [
        JSONRoute(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
        for route in routes
        if isinstance(route, JSONRoute) and "GET" in (route.methods or ())
    ]
    return [*routes, *heads]


def _read_signature(endpoint: Callable[..., Any]) -> _Signature:
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
    return _Signature(ids, names, body, query, call)


def _arguments(signature: _Signature, request: Incoming, scope: Scope) -> dict[str, Any]:
    path: dict[str, str] = scope["path_params"]
    arguments: dict[str, Any] = {name: _path_id(name, path[name]) for name in signature.ids}
    arguments |= {name: path[name] for name in signature.names}
    if signature.body:
        name, adapter = signature.body
        arguments[name] = _validated(request, adapter)
    if signature.query:
        name, model = signature.query
        arguments[name] = _validated_query(request, model)
    elif request.query:
        _validated_query(request, NoQuery)
    return arguments


def _path_id(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _NOT_FOUND[name](text[:64]) from None


def _validated(request: Incoming, adapter: TypeAdapter[Any]) -> Any:
    media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    if request.body and media_type != "application/json":
        # A web page can send a form or plain text to a loopback server without asking; JSON it cannot.
        message = "must be application/json"
        raise validation_problem("The request is not valid.", ("header", "Content-Type"), message)
    try:
        return adapter.validate_json(request.body or b"{}", strict=True)
    except ValidationError as error:
        raise _invalid(error, "body") from None


def _validated_query(request: Incoming, model: type[BaseModel]) -> BaseModel:
    parameters: dict[str, str] = {}
    for name, value in QueryParams(request.query).multi_items():
        if name in parameters:
            raise validation_problem("The request is not valid.", ("query", name), "is there more than once")
        parameters[name] = value
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        raise _invalid(error, "query") from None


def _client_path(loc: tuple[int | str, ...]) -> list[int | str]:
    """Return where a value is in what the client sent, without the names of the alternatives that pydantic tried."""
    before: list[int | str] = [*loc[:1], *loc[:-1]]
    return [
        part
        for part, previous in zip(loc, before, strict=True)
        if part not in CONTENT_FORMS and not (isinstance(previous, int) and part in BLOCK_TYPES)
    ]


def _invalid(error: ValidationError, place: str) -> ProblemError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"loc": [place, *_client_path(problem["loc"])], "msg": problem["msg"]} for problem in found[:20]]
    return ProblemError(VALIDATION_FAILED, "The request is not valid.", errors=errors)
