"""The error trees match their docstrings, and every error has its problem."""

import inspect
import re
from types import ModuleType
from typing import Any

import orjson
import psycopg
import pytest

import api.auth.errors
import domain.errors
import eventlog.errors
import projections.errors
from api.auth.errors import (
    AuthenticationError,
    ForbiddenError,
    IdentityProviderError,
    InvalidOwnerError,
    KeyNotFoundError,
    OwnerRequiredError,
    UnauthenticatedError,
)
from api.http.problems import INTERNAL, PROBLEM_KINDS, problem_of, problem_response
from domain.errors import (
    AgentNotFoundError,
    ConversationDeletedError,
    ConversationLimitReachedError,
    ConversationLockedError,
    ConversationNotFoundError,
    DeltaOutOfOrderError,
    DomainError,
    IdempotencyKeyReusedError,
    InvalidContentError,
    LimitReachedError,
    MessageNotFoundError,
    TurnNotActiveError,
    TurnNotFoundError,
    UnsupportedImageError,
    VersionMismatchError,
    WriteConflictError,
)
from eventlog.errors import (
    IdempotencyKeyTakenError,
    LogError,
    MissingImageError,
    StoreUnavailableError,
    UnknownEventError,
    UnstorableEventError,
    VersionTakenError,
)
from projections.errors import ProjectionError, RebuildRunningError, UnknownProjectionError
from tests.support.histories.builders import some_id
from turns.model.errors import ModelError

CODES: list[tuple[DomainError | LogError | ProjectionError | AuthenticationError, int, str]] = [
    (UnauthenticatedError("No."), 401, "UNAUTHENTICATED"),
    (ForbiddenError("No."), 403, "FORBIDDEN"),
    (OwnerRequiredError("Name one."), 400, "BAD_REQUEST"),
    (InvalidOwnerError("must be an id"), 422, "VALIDATION_FAILED"),
    (KeyNotFoundError("None."), 404, "KEY_NOT_FOUND"),
    (IdentityProviderError("Gone."), 503, "IDENTITY_PROVIDER_UNAVAILABLE"),
    (ConversationNotFoundError(some_id()), 404, "CONVERSATION_NOT_FOUND"),
    (ConversationDeletedError(some_id()), 410, "CONVERSATION_DELETED"),
    (ConversationLockedError(some_id(), some_id()), 409, "CONVERSATION_LOCKED"),
    (MessageNotFoundError(some_id()), 404, "MESSAGE_NOT_FOUND"),
    (TurnNotFoundError(some_id()), 404, "TURN_NOT_FOUND"),
    (TurnNotActiveError(some_id()), 409, "TURN_NOT_ACTIVE"),
    (DeltaOutOfOrderError(some_id(), 5, 3), 409, "DELTA_OUT_OF_ORDER"),
    (VersionMismatchError(3), 412, "VERSION_MISMATCH"),
    (WriteConflictError(some_id()), 409, "WRITE_CONFLICT"),
    (InvalidContentError("must not be empty", ("content", 0, "text")), 422, "VALIDATION_FAILED"),
    (UnsupportedImageError("No."), 415, "UNSUPPORTED_IMAGE"),
    (IdempotencyKeyReusedError("k"), 422, "IDEMPOTENCY_KEY_REUSED"),
    (AgentNotFoundError("support"), 404, "AGENT_NOT_FOUND"),
    (ConversationLimitReachedError("support", 3), 409, "CONVERSATION_LIMIT_REACHED"),
    (LimitReachedError("At most 3.", 7), 429, "RATE_LIMITED"),
    (StoreUnavailableError("Gone."), 503, "STORE_UNAVAILABLE"),
    (UnknownEventError("MessagePinned version 1 is unknown"), 503, "STORE_UNAVAILABLE"),
    (UnstorableEventError("No."), 422, "VALIDATION_FAILED"),
    (UnknownProjectionError("nope", ["listing"]), 404, "PROJECTION_NOT_FOUND"),
    (RebuildRunningError("listing"), 409, "WRITE_CONFLICT"),
]

NEVER_RETURNED: set[type[Exception]] = {
    VersionTakenError,
    IdempotencyKeyTakenError,
    MissingImageError,
}
"""Errors that no client can act on.

A lost race is decided again. A key that was recorded meanwhile is answered from the log. A missing image is the fault
of an operator.
"""

RETURNED_TO_OPERATORS: set[type[Exception]] = {UnknownProjectionError, RebuildRunningError}
"""Errors of commands that operators run. Other errors of a build occur in a process of its own."""


def classes_of(module: ModuleType) -> list[type]:
    return [item for item in vars(module).values() if inspect.isclass(item) and item.__module__ == module.__name__]


@pytest.mark.parametrize("module", [domain.errors, eventlog.errors, projections.errors, api.auth.errors])
def test_the_error_tree_matches_the_drawing_in_the_docstring(module: ModuleType) -> None:
    drawn = re.findall(r"^(?:[├└]── )?(\w+Error)\b", module.__doc__ or "", re.MULTILINE)
    root, *leaves = classes_of(module)
    assert drawn == [root.__name__, *(leaf.__name__ for leaf in leaves)]
    assert all(leaf.__bases__ == (root,) for leaf in leaves)


def test_every_error_that_a_client_can_receive_has_a_problem() -> None:
    modules = (domain.errors, eventlog.errors, api.auth.errors)
    errors = {each for module in modules for each in classes_of(module)} - {DomainError, LogError, AuthenticationError}
    assert set(PROBLEM_KINDS) == errors - NEVER_RETURNED | RETURNED_TO_OPERATORS
    assert {type(error) for error, _, _ in CODES} == set(PROBLEM_KINDS)


@pytest.mark.parametrize(("error", "status", "code"), CODES, ids=[code for _, _, code in CODES])
def test_an_error_is_answered_with_its_status_and_code(
    error: DomainError | LogError | ProjectionError | AuthenticationError, status: int, code: str
) -> None:
    response = problem_response(problem_of(error))
    body = orjson.loads(response.body)
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert response.media_type == "application/problem+json"
    assert {"type", "title", "detail"} <= set(body)


@pytest.mark.parametrize(
    "error",
    [cls("the secret inside") for cls in (*sorted(NEVER_RETURNED, key=repr), psycopg.errors.UndefinedTable)],
    ids=repr,
)
def test_an_internal_error_of_the_store_is_a_503_without_details(error: Any) -> None:
    problem = problem_of(error)
    assert problem.kind == (503, "STORE_UNAVAILABLE")
    assert "secret" not in problem.detail


def test_an_unexpected_error_is_a_500_without_details() -> None:
    problem = problem_of(ValueError("the secret inside"))
    assert problem.kind == INTERNAL
    assert "secret" not in problem.detail


def test_an_error_of_the_model_library_outside_of_a_turn_is_a_502() -> None:
    problem = problem_of(ModelError("model_unavailable", "The model library could not be loaded."))
    assert (problem.kind, problem.detail) == ((502, "MODEL_ERROR"), "The model library could not be loaded.")


def test_the_problem_of_a_locked_conversation_names_the_turn_and_when_to_retry() -> None:
    turn_id = some_id()
    response = problem_response(problem_of(ConversationLockedError(some_id(), turn_id)))
    assert orjson.loads(response.body)["active_turn_id"] == str(turn_id)
    assert response.headers["retry-after"] == "1"


def test_the_problem_of_invalid_content_names_its_location() -> None:
    body = orjson.loads(problem_response(problem_of(InvalidContentError("must not be empty", ("content", 1)))).body)
    assert body["errors"] == [{"loc": ["body", "content", 1], "msg": "must not be empty"}]


def test_the_problem_of_an_event_of_a_newer_release_has_no_time_to_retry() -> None:
    response = problem_response(problem_of(UnknownEventError("MessagePinned version 1 is unknown")))
    detail = "The log holds an event of a newer release: MessagePinned version 1 is unknown."
    assert orjson.loads(response.body)["detail"] == detail
    assert "retry-after" not in response.headers


def test_the_problem_of_an_unavailable_store_says_when_to_retry() -> None:
    assert problem_response(problem_of(StoreUnavailableError("Gone."))).headers["retry-after"] == "1"
