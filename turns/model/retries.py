"""Retries of a model call: for transient errors, before the first chunk."""

import random
from typing import Final

from turns.model.errors import ModelError, ModelErrorCode

_ATTEMPTS: Final[dict[ModelErrorCode, int | None]] = {
    "model_rate_limited": None,
    "model_unavailable": None,
    "model_timeout": 2,
}
"""Transient errors and the attempts allowed for each. None means no limit of its own."""

_FIRST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 8.0


class Retries:
    """The attempts of one call."""

    def __init__(self, max_attempts: int) -> None:
        """`max_attempts` counts the first one."""
        self._left = max_attempts
        self._failed: dict[ModelErrorCode, int] = {}

    def delay_after(self, error: ModelError) -> float | None:
        """Return the seconds to wait before the next attempt, None if there is none.

        The back-off doubles with each attempt and is jittered. A provider's Retry-After is added to it. There is no
        further attempt after a Retry-After of more than 8 s.
        """
        self._left -= 1
        failed = self._failed[error.code] = self._failed.get(error.code, 0) + 1
        limit = _ATTEMPTS.get(error.code, 0)
        retry_after_s = error.retry_after_s or 0.0
        if self._left <= 0 or (limit is not None and failed >= limit) or retry_after_s > _LONGEST_BACKOFF_S:
            return None
        backoff_s = min(_FIRST_BACKOFF_S * 2 ** (failed - 1), _LONGEST_BACKOFF_S)
        return retry_after_s + backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  not a secret
