"""Validation of a request: the ids in its path, its JSON body and its query."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams

from api.http.problems import VALIDATION_FAILED, ProblemError, validation_problem
from api.http.request import HttpRequest
from api.http.requests.body_models import CONTENT_FORMS
from domain.content import BLOCK_TYPES
from domain.errors import ConversationNotFoundError, DomainError, MessageNotFoundError, TurnNotFoundError

MAX_ERRORS = 20

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)

_NOT_FOUND: Mapping[str, type[DomainError]] = {
    "conversation_id": ConversationNotFoundError,
    "message_id": MessageNotFoundError,
    "turn_id": TurnNotFoundError,
}


def validate_path_id(name: str, text: str) -> UUID:
    """Return the id that a path parameter holds.

    Raises:
        DomainError: it is not an id, so no resource has it.
    """
    # `UUID` takes other spellings too: digits of any script, spaces, braces, `urn:uuid:`.
    if not _ID.fullmatch(text):
        raise _NOT_FOUND[name](text[:64])
    return UUID(text)


def validate_body(request: HttpRequest, adapter: TypeAdapter[Any]) -> Any:
    """Return the JSON body as the type of `adapter`. An empty body counts as `{}`.

    Raises:
        ProblemError: the body is not JSON, or not valid.
    """
    media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    if request.body and media_type != "application/json":
        # A web page can send a form or plain text to a loopback server without asking, but not JSON.
        message = "must be application/json"
        raise validation_problem("The request is not valid.", ("header", "Content-Type"), message)
    try:
        return adapter.validate_json(request.body or b"{}", strict=True)
    except ValidationError as error:
        raise _problem(error, "body") from None


def validate_query(request: HttpRequest, model: type[BaseModel]) -> BaseModel:
    """Return the query parameters as a model.

    Raises:
        ProblemError: a parameter is not valid, or is given twice.
    """
    parameters: dict[str, str] = {}
    for name, value in QueryParams(request.query).multi_items():
        if name in parameters:
            raise validation_problem("The request is not valid.", ("query", name), "is there more than once")
        parameters[name] = value
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        raise _problem(error, "query") from None


def _problem(error: ValidationError, part: str) -> ProblemError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"loc": [part, *_client_path(item["loc"])], "msg": item["msg"]} for item in found[:MAX_ERRORS]]
    return ProblemError(VALIDATION_FAILED, "The request is not valid.", errors=errors)


def _client_path(loc: tuple[int | str, ...]) -> list[int | str]:
    """Return pydantic's path to a value, without the names of union members."""
    before: list[int | str] = [*loc[:1], *loc[:-1]]
    return [
        part
        for part, previous in zip(loc, before, strict=True)
        if part not in CONTENT_FORMS and not (isinstance(previous, int) and part in BLOCK_TYPES)
    ]
