"""Reads one answer as litellm streams it: the provider's own chunks, then an end, a break or a time-out."""

import asyncio
import math
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

from turns.litellm_types import LiteLLMStream
from turns.model_call import FinishReason, ModelChunk, ModelTimeouts
from turns.model_errors import ModelError, model_error_from
from turns.provider_streams import MAX_ANSWER_SIZE, Delta, answer_too_large, provider_stream
from turns.tool_fragments import ToolFragments

_T = TypeVar("_T")

_TRAILER_S: Final = 5
"""How long a provider that has finished may take to send its usage and hang up."""

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "tool_use": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
}
"""Providers' words, in lower case. Every other one (`stop`, `end_turn`, `eos`, `stop_sequence`, …) is a plain stop."""


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


class Answer:
    """One streamed answer: `read` it until it gives None, `aclose` it in any case."""

    def __init__(self, stream: LiteLLMStream, clock: Clock) -> None:
        """Takes over the stream."""
        self._stream = stream
        self._source = provider_stream(stream)
        self._clock = clock
        self._texts: list[str] = []
        self._size = 0
        self.tools = ToolFragments()

    async def read(self) -> list[ModelChunk] | None:
        """The next chunks, an empty list for a piece of a tool call, None once the provider has finished.

        Raises:
            ModelError: the provider failed, broke off, was too slow, said too much, or ended without a finish.
        """
        try:
            while (delta := await self._clock.limit(self._next_delta())) is not None:
                if delta.pieces or delta.fragments:
                    return delta.pieces
        except ModelError:
            if self._source.finish_reason is None:  # what comes after the finish is no part of the answer
                raise
        self._require_finish()
        return None

    @property
    def text(self) -> str:
        """All that was said so far, reasoning included."""
        return "".join(self._texts)

    @property
    def reports(self) -> Iterable[object]:
        """The provider's chunks in which usage may be."""
        return self._source.reports

    @property
    def finish_reason(self) -> FinishReason:
        """Why the provider finished, in our words."""
        reason = _FINISH_REASONS.get((self._source.finish_reason or "").lower(), "stop")
        return "tool_use" if reason == "stop" and self.tools.begun else reason

    async def aclose(self) -> None:
        """Close the connection to the provider, whatever is still to come on it."""
        self._clock.stop()
        await self._stream.aclose()

    async def _next_delta(self) -> Delta | None:
        delta = await self._source.next()
        if delta is None:
            return None
        for piece in delta.pieces:
            self._count(piece.text)
            self._texts.append(piece.text)
        for fragment in delta.fragments:
            self._count(fragment.id, fragment.name, fragment.arguments)
        self.tools.add(delta.fragments)
        token = bool(delta.pieces or delta.fragments)
        self._clock.heard(token=token, finish=self._source.finish_reason is not None)
        return delta

    def _count(self, *texts: str | None) -> None:
        self._size += sum(len(text) for text in texts if text)
        if self._size > MAX_ANSWER_SIZE:
            raise answer_too_large()

    def _require_finish(self) -> None:
        if self._source.finish_reason is None:
            raise ModelError("model_error", "The model's answer ended before it was finished.")
        if self._source.finish_reason == "error":
            raise ModelError("model_error", "The provider reported an error.")
