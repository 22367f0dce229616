"""The route class of the API: reads, limits and validates a request itself, so that bad input has one exact answer.

FastAPI's own handler costs a third of a request here and answers wrong input in several shapes; its signatures and
OpenAPI document are kept.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args, get_origin
from uuid import UUID

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from api.call import Call, CallParam, caller_of, find_repeated, wait_for_position
from api.problems import VALIDATION_FAILED, Kind, ProblemError, validation_problem
from api.requests import CONTENT_FORMS, NoQuery
from domain.content import BLOCK_TYPES
from domain.errors import ConversationNotFoundError, DomainError, MessageNotFoundError, TurnNotFoundError
from eventlog.errors import IdempotencyKeyTakenError

MAX_BODY_BYTES = 10 * 1024 * 1024

_PAYLOAD_TOO_LARGE = Kind(413, "PAYLOAD_TOO_LARGE")
_BROKEN_OFF = Kind(400, "BAD_REQUEST")
_NOT_FOUND: Mapping[str, type[DomainError]] = {
    "conversation_id": ConversationNotFoundError,
    "message_id": MessageNotFoundError,
    "turn_id": TurnNotFoundError,
}


class _Signature(NamedTuple):
    """What a route's function takes, by parameter name."""

    path: list[str]
    body: tuple[str, TypeAdapter[Any]] | None
    query: tuple[str, type[BaseModel]] | None
    request: str | None
    call: str | None


class JSONRoute(APIRoute):
    """A route whose function takes any of: the call, the request, ids of the path, one body model, one query model."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._signature = _read_signature(endpoint)
        self.app = self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        signature, services = self._signature, request.app.state.services
        body = await _read_body(request) if request.method in ("POST", "PATCH") else b""
        arguments = _arguments(signature, request, body)
        if request.method == "GET":
            await wait_for_position(request, services)
        if signature.call is None:
            return await self.endpoint(**arguments)
        caller = caller_of(request, body)
        arguments[signature.call] = call = Call(services, caller, await find_repeated(services, caller))
        try:
            return await self.endpoint(**arguments)
        except (DomainError, IdempotencyKeyTakenError):
            # Where the same request arrived twice at once and the other was first, answer as it was answered.
            repeated = None if call.repeated else await find_repeated(services, caller)
            if repeated is None:
                raise
            arguments[signature.call] = Call(services, caller, repeated)
            return await self.endpoint(**arguments)


def _read_signature(endpoint: Callable[..., Any]) -> _Signature:
    path: list[str] = []
    body = query = request = call = None
    for name, parameter in inspect.signature(endpoint, eval_str=True).parameters.items():
        annotation = parameter.annotation
        if annotation == CallParam:
            call = name
        elif annotation is Request:
            request = name
        elif annotation is UUID:
            path.append(name)
        elif get_origin(annotation) is not None:
            query = (name, get_args(annotation)[0])
        else:
            body = (name, TypeAdapter(annotation))
    return _Signature(path, body, query, request, call)


def _arguments(signature: _Signature, request: Request, body: bytes) -> dict[str, Any]:
    arguments: dict[str, Any] = {name: _path_id(name, request.path_params[name]) for name in signature.path}
    if signature.body:
        name, adapter = signature.body
        arguments[name] = _validated(request, adapter, body)
    if signature.query:
        name, model = signature.query
        arguments[name] = _validated_query(request, model)
    elif request.scope["query_string"]:
        _validated_query(request, NoQuery)
    if signature.request:
        arguments[signature.request] = request
    return arguments


def _path_id(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _NOT_FOUND[name](text[:64]) from None


async def _read_body(request: Request) -> bytes:
    """Return the body, and refuse a long one as soon as it is known to be long."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(_BROKEN_OFF, "The request broke off.")
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
        size += len(chunks[-1])
        if size > MAX_BODY_BYTES:
            raise _too_large()
    return b"".join(chunks)


def _too_large() -> ProblemError:
    return ProblemError(_PAYLOAD_TOO_LARGE, f"A request body is at most {MAX_BODY_BYTES} bytes.")


def _validated(request: Request, adapter: TypeAdapter[Any], body: bytes) -> Any:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        # A web page can send a form or plain text to a loopback server without asking; JSON it cannot.
        message = "must be application/json"
        raise validation_problem("The request is not valid.", ("header", "Content-Type"), message)
    try:
        return adapter.validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        raise _invalid(error, "body") from None


def _validated_query(request: Request, model: type[BaseModel]) -> BaseModel:
    given = request.query_params.multi_items()
    parameters = dict(given)
    if len(parameters) < len(given):
        raise validation_problem("The request is not valid.", ("query",), "names a parameter more than once")
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
