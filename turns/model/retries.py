"""Whether and when a failed model call is tried again: only what may pass, a few times, before the first chunk."""

import random
from typing import Final

from turns.model.errors import ModelError, ModelErrorCode

_ATTEMPTS: Final[dict[ModelErrorCode, int | None]] = {
    "model_rate_limited": None,
    "model_unavailable": None,
    "model_timeout": 2,
}
"""The errors that may pass, and how many attempts each is worth; None for as many as there are."""

_FIRST_BACKOFF_S: Final = 0.25
_LONGEST_BACKOFF_S: Final = 8.0


class Retries:
    """The attempts of one call."""

    def __init__(self, max_attempts: int) -> None:
        """`max_attempts` counts the first one."""
        self._left = max_attempts
        self._failed: dict[ModelErrorCode, int] = {}

    def delay_after(self, error: ModelError) -> float | None:
        """Seconds to wait before the next attempt, None when there is to be none.

        The wait doubles with each attempt and is jittered, so that many callers do not come back as one. A provider's
        Retry-After is kept; one longer than 8 s is not waited for.
        """
        self._left -= 1
        failed = self._failed[error.code] = self._failed.get(error.code, 0) + 1
        most = _ATTEMPTS.get(error.code, 0)
        asked_s = error.retry_after_s or 0.0
        if self._left <= 0 or (most is not None and failed >= most) or asked_s > _LONGEST_BACKOFF_S:
            return None
        backoff_s = min(_FIRST_BACKOFF_S * 2 ** (failed - 1), _LONGEST_BACKOFF_S)
        return asked_s + backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  no secret hangs on it
