"""The time-outs of a model call: to the first token, between tokens, and in all."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from turns.model.errors import ModelError, model_error_from
from turns.model.gateway_types import ModelTimeouts

_T = TypeVar("_T")

_TRAILER_S: Final = 5
"""The time that a finished provider has to send its usage and close the connection."""


class Deadlines:
    """The deadlines of one attempt at a call, on the event loop's clock.

    `call_began` is the loop time at which the first attempt of the call began.
    """

    def __init__(self, timeouts: ModelTimeouts, call_began: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._between_s = timeouts.between_tokens_s
        self._total_deadline = call_began + timeouts.total_s
        self._next_deadline = self._loop.time() + timeouts.first_token_s
        self._begun = False
        self._timeout: asyncio.Timeout | None = None

    def received(self, *, token: bool, finish: bool) -> None:
        """Move the deadline after the provider sent something.

        Only a token ends the wait for the first one.
        """
        if token or self._begun:
            self._begun = True
            self._next_deadline = self._loop.time() + (_TRAILER_S if finish else self._between_s)
            if self._timeout is not None and not self._timeout.expired():
                self._timeout.reschedule(self._ends_at())

    async def limit(self, awaitable: Awaitable[_T]) -> _T:
        """Return the result of `awaitable` within the deadline.

        It waits for the provider. A result that is there already is returned even after the deadline.

        Raises:
            ModelError: `awaitable` raised, or the deadline passed.
        """
        self._timeout = timeout = asyncio.timeout_at(self._ends_at())
        try:
            async with timeout:
                return await awaitable
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001  all that litellm raises is translated here
            # No cause is kept: it carries the provider's words, and with them prompts and keys, into every log.
            raise (self._error() if timeout.expired() else model_error_from(error)) from None
        finally:
            self._timeout = None

    def _ends_at(self) -> float:
        """Return the loop time of the next deadline."""
        return min(self._total_deadline, self._next_deadline)

    def _error(self) -> ModelError:
        """Return the error of the deadline that comes first."""
        if self._total_deadline <= self._next_deadline:
            return ModelError("model_timeout", "The model's answer took too long in all.")
        if self._begun:
            return ModelError("model_timeout", "The model stopped in the middle of its answer.")
        return ModelError("model_timeout", "The model did not begin to answer in time.")
