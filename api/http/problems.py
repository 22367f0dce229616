"""Problems: every error response as `application/problem+json` (RFC 9457).

Each has a stable code. One table maps the error classes to their status and code.
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import psycopg
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from api.auth.credentials import OWNER
from api.auth.errors import (
    ForbiddenError,
    IdentityProviderError,
    InvalidOwnerError,
    KeyNotFoundError,
    OwnerRequiredError,
    UnauthenticatedError,
)
from domain import errors
from domain.errors import ConversationLockedError, DeltaOutOfOrderError, InvalidContentError, LimitReachedError
from eventlog.errors import LogError, StoreUnavailableError, UnknownEventError, UnstorableEventError
from projections.errors import RebuildRunningError, UnknownProjectionError
from turns.model.errors import ModelError

RETRY_AFTER = {"Retry-After": "1"}  # seconds
CHALLENGE = {"WWW-Authenticate": "Bearer"}

_log = logging.getLogger("uvicorn.error")


class ProblemKind(NamedTuple):
    """A kind of problem: its HTTP status, and the code by which clients know it."""

    status: int
    code: str


BAD_REQUEST = ProblemKind(400, "BAD_REQUEST")
INVALID_CURSOR = ProblemKind(400, "INVALID_CURSOR")
INVALID_AS_OF = ProblemKind(400, "INVALID_AS_OF")
FORBIDDEN = ProblemKind(403, "FORBIDDEN")
NOT_FOUND = ProblemKind(404, "NOT_FOUND")
METHOD_NOT_ALLOWED = ProblemKind(405, "METHOD_NOT_ALLOWED")
REQUEST_TIMEOUT = ProblemKind(408, "REQUEST_TIMEOUT")
PAYLOAD_TOO_LARGE = ProblemKind(413, "PAYLOAD_TOO_LARGE")
UNSUPPORTED_ENCODING = ProblemKind(415, "UNSUPPORTED_ENCODING")
VALIDATION_FAILED = ProblemKind(422, "VALIDATION_FAILED")
HEADERS_TOO_LARGE = ProblemKind(431, "HEADERS_TOO_LARGE")
INTERNAL = ProblemKind(500, "INTERNAL_ERROR")
MODEL_ERROR = ProblemKind(502, "MODEL_ERROR")
READ_MODEL_BEHIND = ProblemKind(503, "READ_MODEL_BEHIND")
SERVER_BUSY = ProblemKind(503, "SERVER_BUSY")

PROBLEM_KINDS: Mapping[type[Exception], ProblemKind] = {
    errors.ConversationNotFoundError: ProblemKind(404, "CONVERSATION_NOT_FOUND"),
    errors.ConversationDeletedError: ProblemKind(410, "CONVERSATION_DELETED"),
    errors.ConversationLockedError: ProblemKind(409, "CONVERSATION_LOCKED"),
    errors.MessageNotFoundError: ProblemKind(404, "MESSAGE_NOT_FOUND"),
    errors.TurnNotFoundError: ProblemKind(404, "TURN_NOT_FOUND"),
    errors.TurnNotActiveError: ProblemKind(409, "TURN_NOT_ACTIVE"),
    errors.DeltaOutOfOrderError: ProblemKind(409, "DELTA_OUT_OF_ORDER"),
    errors.VersionMismatchError: ProblemKind(412, "VERSION_MISMATCH"),
    errors.WriteConflictError: ProblemKind(409, "WRITE_CONFLICT"),
    errors.InvalidContentError: VALIDATION_FAILED,
    errors.UnsupportedImageError: ProblemKind(415, "UNSUPPORTED_IMAGE"),
    errors.IdempotencyKeyReusedError: ProblemKind(422, "IDEMPOTENCY_KEY_REUSED"),
    errors.AgentNotFoundError: ProblemKind(404, "AGENT_NOT_FOUND"),
    errors.ConversationLimitReachedError: ProblemKind(409, "CONVERSATION_LIMIT_REACHED"),
    errors.LimitReachedError: ProblemKind(429, "RATE_LIMITED"),
    StoreUnavailableError: ProblemKind(503, "STORE_UNAVAILABLE"),
    UnknownEventError: ProblemKind(503, "STORE_UNAVAILABLE"),
    UnstorableEventError: VALIDATION_FAILED,
    UnauthenticatedError: ProblemKind(401, "UNAUTHENTICATED"),
    ForbiddenError: ProblemKind(403, "FORBIDDEN"),
    IdentityProviderError: ProblemKind(503, "IDENTITY_PROVIDER_UNAVAILABLE"),
    OwnerRequiredError: BAD_REQUEST,
    InvalidOwnerError: VALIDATION_FAILED,
    KeyNotFoundError: ProblemKind(404, "KEY_NOT_FOUND"),
    UnknownProjectionError: ProblemKind(404, "PROJECTION_NOT_FOUND"),
    RebuildRunningError: ProblemKind(409, "WRITE_CONFLICT"),
}

_OF_FRAMEWORK = {kind.status: kind for kind in (NOT_FOUND, METHOD_NOT_ALLOWED)}

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    410: "Gone",
    412: "Precondition failed",
    413: "Payload too large",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
    431: "Request header fields too large",
    500: "Internal error",
    502: "Bad gateway",
    503: "Service unavailable",
}


class ProblemError(Exception):
    """An error of the HTTP API itself, which already is a problem."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.members = members if errors is None else {**members, "errors": errors}


def validation_problem(detail: str, loc: tuple[str | int, ...], message: str) -> ProblemError:
    """Return the problem of one invalid value at `loc`."""
    return ProblemError(VALIDATION_FAILED, detail, errors=[{"loc": list(loc), "msg": message}])


def problem_response(problem: ProblemError) -> Response:
    """Return the response that carries a problem."""
    status, code = problem.kind
    body = {
        "type": f"urn:turnlog:problem:{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": problem.detail,
        "code": code,
        **problem.members,
    }
    return Response(orjson.dumps(body), status, problem.headers, "application/problem+json")


def error_response(error: Exception) -> Response:
    """Return the response to a request that failed.

    An unexpected error is logged, and the client gets no detail of it.
    """
    problem = problem_of(error)
    if problem.kind is INTERNAL:
        _log.error("A request failed: %s", error, exc_info=error)
    return problem_response(problem)


def problem_of(error: Exception) -> ProblemError:
    """Return the problem that a client gets for an error."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ModelError):
        return ProblemError(MODEL_ERROR, error.detail)
    kind = PROBLEM_KINDS.get(type(error))
    if kind is None and isinstance(error, LogError | psycopg.Error):
        _log.error("The store could not do what was asked: %s", error, exc_info=error)
        return ProblemError(PROBLEM_KINDS[StoreUnavailableError], "The store could not do what was asked.")
    kind = kind or INTERNAL
    detail = str(error) if kind is not INTERNAL else "The server failed."
    if isinstance(error, ConversationLockedError):
        return ProblemError(kind, detail, headers=RETRY_AFTER, active_turn_id=error.active_turn_id)
    if isinstance(error, LimitReachedError):
        return ProblemError(kind, detail, headers={"Retry-After": str(max(1, error.retry_after_s))})
    if isinstance(error, DeltaOutOfOrderError):
        return ProblemError(kind, detail, next_seq=error.next_seq)
    if isinstance(error, InvalidContentError):
        return validation_problem("The request is not valid.", ("body", *error.path), detail)
    if isinstance(error, UnstorableEventError):
        return validation_problem("The request is not valid.", ("body",), detail)
    if isinstance(error, OwnerRequiredError | InvalidOwnerError):
        return ProblemError(kind, "The request is not valid.", [{"loc": ["header", OWNER], "msg": detail}])
    if isinstance(error, UnauthenticatedError):
        return ProblemError(kind, detail, headers=CHALLENGE)
    if isinstance(error, StoreUnavailableError | IdentityProviderError):
        return ProblemError(kind, detail, headers=RETRY_AFTER)
    if isinstance(error, UnknownEventError):
        # Without Retry-After: another release is needed, and time does not help.
        return ProblemError(kind, f"The log holds an event of a newer release: {detail}.")
    return ProblemError(kind, detail)


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Return the response to an error of the framework, such as an unknown path."""
    assert isinstance(error, HTTPException)
    kind = _OF_FRAMEWORK.get(error.status_code, ProblemKind(error.status_code, BAD_REQUEST.code))
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return problem_response(ProblemError(kind, str(error.detail), headers=headers))


def _methods(request: Request) -> list[str]:
    """Return the methods of the path that a request names."""
    # Each method has a route of its own, and the framework names only the methods of the first route.
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route for route in routes if route.path_regex.match(request.url.path)]
    return sorted({method for route in found for method in route.methods or ()})


async def handle_unexpected(_: Request, error: Exception) -> Response:
    """Return the response to a defect outside the JSON routes. The server logs it."""
    return problem_response(problem_of(error))
