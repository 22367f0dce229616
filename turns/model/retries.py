"""Retries of a model call: for transient errors, before the first chunk."""

import math
import random
from typing import Final

from turns.model.errors import ModelError, ModelErrorCode

_TRANSIENT: Final[frozenset[ModelErrorCode]] = frozenset({"model_rate_limited", "model_unavailable", "model_timeout"})
_MAX_ATTEMPTS: Final[dict[ModelErrorCode, int]] = {"model_timeout": 2}
"""Limits of the attempts that fail with one error, besides the limit of all attempts."""

_FIRST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 8.0


class Retries:
    """The attempts of one call, at most `max_attempts` with the first one."""

    def __init__(self, max_attempts: int) -> None:
        self._left = max_attempts
        self._failed: dict[ModelErrorCode, int] = {}

    def delay_after(self, error: ModelError) -> float | None:
        """Return the seconds to wait before the next attempt, None if there is none.

        The back-off doubles with each attempt and is jittered. A provider's Retry-After is added to it. There is no
        further attempt after a Retry-After of more than 8 s.
        """
        self._left -= 1
        failed = self._failed[error.code] = self._failed.get(error.code, 0) + 1
        retry_after_s = error.retry_after_s or 0.0
        if error.code not in _TRANSIENT or self._left <= 0 or retry_after_s > _LONGEST_BACKOFF_S:
            return None
        if failed >= _MAX_ATTEMPTS.get(error.code, math.inf):
            return None
        backoff_s = min(_FIRST_BACKOFF_S * 2 ** (failed - 1), _LONGEST_BACKOFF_S)
        return retry_after_s + backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  not a secret
