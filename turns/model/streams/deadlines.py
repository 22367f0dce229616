"""How long a provider is waited for: until its first token, between tokens, and in all."""

import asyncio
import math
from collections.abc import Awaitable
from typing import Final, TypeVar

from turns.model.call import ModelTimeouts
from turns.model.errors import ModelError, model_error_from

_T = TypeVar("_T")

_TRAILER_S: Final = 5
"""How long a provider that has finished may take to send its usage and hang up."""


class Clock:
    """The deadlines of one attempt at a call, on the event loop's clock.

    A provider's every chunk moves the deadline, so there is one timer for all of them, which looks again where it
    comes too early: a timer for each would take a tenth of a chunk's processor time.
    """

    def __init__(self, timeouts: ModelTimeouts, call_began: float) -> None:
        """`call_began` is the loop time at which the whole call began, earlier attempts included."""
        self._loop = asyncio.get_running_loop()
        self._between_s = timeouts.between_tokens_s
        self._whole = call_began + timeouts.total_s
        self._next = self._loop.time() + timeouts.first_token_s
        self._begun = False
        self._expired = False
        self._waiting: asyncio.Task[object] | None = None
        self._rings_at = self.deadline
        self._timer = self._loop.call_at(self._rings_at, self._ring)

    @property
    def deadline(self) -> float:
        """The loop time at which waiting for the provider ends."""
        return min(self._whole, self._next)

    def heard(self, *, token: bool, finish: bool) -> None:
        """The provider sent something; only a token ends the wait for the first one."""
        if token or self._begun:
            self._begun = True
            self._next = self._loop.time() + (_TRAILER_S if finish else self._between_s)
            if self.deadline < self._rings_at:
                self._set_timer()

    async def limit(self, waiting: Awaitable[_T]) -> _T:
        """The result of waiting for the provider, within the deadline.

        Raises:
            ModelError: litellm raised, or the deadline passed.
        """
        task = self._waiting = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        # What is there already is taken, however late it is asked for.
        late = self._loop.call_soon(self._ring) if self._loop.time() >= self.deadline else None
        try:
            return await waiting
        except asyncio.CancelledError:
            if self._expired and task.cancelling() == cancelled_before + 1:
                raise self._error() from None
            raise
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001  whatever litellm raises is translated here
            # No cause is kept: it carries the provider's words, and with them prompts and keys, into every log.
            raise (self._error() if self._expired else model_error_from(error)) from None
        finally:
            self._waiting = None
            if late is not None:
                late.cancel()
            if self._expired:
                self._expired = False
                task.uncancel()

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._timer.cancel()

    def _set_timer(self) -> None:
        self.stop()
        self._rings_at = self.deadline
        self._timer = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        if self._loop.time() < self.deadline:
            self._set_timer()
            return
        self._rings_at = math.inf
        if self._waiting is not None and not self._expired:
            self._expired = True
            self._waiting.cancel()

    def _error(self) -> ModelError:
        """The error of the deadline that comes first."""
        if self._whole <= self._next:
            return ModelError("model_timeout", "The model's answer took too long in all.")
        if self._begun:
            return ModelError("model_timeout", "The model stopped in the middle of its answer.")
        return ModelError("model_timeout", "The model did not begin to answer in time.")
