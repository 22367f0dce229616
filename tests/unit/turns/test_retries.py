"""The retries of a model call: which errors, how often, and after which pause."""

import pytest

from turns.model.errors import ModelError, ModelErrorCode
from turns.model.retries import Retries


def error(code: ModelErrorCode, retry_after_s: float | None = None) -> ModelError:
    return ModelError(code, "…", retry_after_s=retry_after_s)


def attempts(code: ModelErrorCode, max_attempts: int) -> int:
    """Return how many attempts of a call are made that always fails."""
    retries, made = Retries(max_attempts), 1
    while retries.delay_after(error(code)) is not None:
        made += 1
    return made


@pytest.mark.parametrize("code", ["model_rate_limited", "model_unavailable"])
def test_a_transient_error_is_retried_up_to_the_last_attempt(code: ModelErrorCode) -> None:
    assert [attempts(code, allowed) for allowed in (1, 2, 3, 5)] == [1, 2, 3, 5]


def test_a_timeout_is_retried_once() -> None:
    assert [attempts("model_timeout", allowed) for allowed in (1, 2, 3, 5)] == [1, 2, 2, 2]


@pytest.mark.parametrize("code", ["model_error", "model_auth", "context_too_long", "content_filtered"])
def test_a_lasting_error_is_not_retried(code: ModelErrorCode) -> None:
    assert attempts(code, 3) == 1


def test_errors_of_different_kinds_share_the_attempts() -> None:
    retries = Retries(3)
    assert retries.delay_after(error("model_rate_limited")) is not None
    assert retries.delay_after(error("model_timeout")) is not None
    assert retries.delay_after(error("model_unavailable")) is None


def test_the_backoff_doubles_up_to_8_s_and_is_jittered() -> None:
    retries = Retries(9)
    for longest_s in (0.25, 0.5, 1, 2, 4, 8, 8, 8):
        delay_s = retries.delay_after(error("model_unavailable"))
        assert delay_s is not None
        assert longest_s / 2 <= delay_s <= longest_s


def test_the_backoff_is_added_to_a_retry_after() -> None:
    delay_s = Retries(2).delay_after(error("model_rate_limited", retry_after_s=8))
    assert delay_s is not None
    assert 8.125 <= delay_s <= 8.25


def test_a_long_retry_after_ends_the_attempts() -> None:
    assert Retries(3).delay_after(error("model_rate_limited", retry_after_s=8.1)) is None
