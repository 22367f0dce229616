"""Errors in logs name their types and places, and no content."""

import pytest
from psycopg import errors
from pydantic import BaseModel, ValidationError

from api.telemetry.safe_errors import describe, describe_with_traceback
from audit.errors import LogDamagedError
from domain.errors import ConversationDeletedError, IdempotencyKeyReusedError, InvalidContentError
from eventlog.errors import StoreUnavailableError
from projections.errors import BuildFailedError

SECRET = "s3cret"


class Number(BaseModel):
    number: int


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Number.model_validate({"number": SECRET})
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        KeyError(SECRET),
        RuntimeError(SECRET),
        TypeError(SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
        errors.UniqueViolation(SECRET),
        errors.InvalidTextRepresentation(SECRET),
        errors.RaiseException(SECRET),
        InvalidContentError(SECRET),
        IdempotencyKeyReusedError(SECRET),
        BuildFailedError(SECRET, SECRET),
        invalid(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_text_of_an_error_that_may_quote_content_is_left_out(error: Exception) -> None:
    assert describe(error).startswith(type(error).__name__)
    assert SECRET not in describe(error) + describe_with_traceback(error)


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (StoreUnavailableError("The store does not answer."), "StoreUnavailableError: The store does not answer."),
        (LogDamagedError("The sealed tree is missing."), "LogDamagedError: The sealed tree is missing."),
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError: [Errno 111] Connection refused"),
        (errors.UniqueViolation("x"), "UniqueViolation (23505)"),
        (ConversationDeletedError("7"), "ConversationDeletedError: Conversation 7 was deleted."),  # type: ignore[arg-type]
        (ImportError("No module\n named x"), "ImportError: No module named x"),
        (ValueError("x"), "ValueError"),
    ],
)
def test_other_errors_keep_their_text_in_one_line(error: Exception, described: str) -> None:
    assert describe(error) == described


def test_a_traceback_shows_the_causes_first_and_where_they_were_raised() -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as cause:
            raise StoreUnavailableError("The store does not answer.") from cause
    except StoreUnavailableError as error:
        shown = describe_with_traceback(error)
    assert shown.index("\nValueError") < shown.index("\nStoreUnavailableError: The store does not answer.")
    assert shown.count(__file__) == 2
    assert SECRET not in shown


def test_a_chain_of_errors_without_an_end_is_cut() -> None:
    first, second = raised(ValueError("a")), raised(ValueError("b"))
    first.__cause__, second.__cause__ = second, first
    assert describe_with_traceback(first).count("Traceback") == 2
