"""Reads one streamed answer: the provider's own chunks, then an end, a break or a time-out."""

from collections.abc import Iterable
from typing import Final

from turns.model.call import FinishReason, ModelChunk, ToolCall
from turns.model.errors import ModelError
from turns.model.streams.chunks import Delta
from turns.model.streams.deadline import Clock
from turns.model.streams.event_parser import MAX_ANSWER_SIZE, answer_too_large
from turns.model.streams.provider_streams import ProviderStream
from turns.model.streams.tool_fragments import ToolFragments

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

_FAILED: Final = frozenset({"error", "abort"})


class Answer:
    """One streamed answer: `read` it until it gives None, `aclose` it in any case."""

    def __init__(self, source: ProviderStream, clock: Clock, tool_names: Iterable[str]) -> None:
        """Take over the stream; the names are those of the tools that the model may call."""
        self._source = source
        self._clock = clock
        self._texts: list[str] = []
        self._size = 0
        self._tools = ToolFragments(tool_names)

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
        return "tool_use" if reason == "stop" and self._tools.begun else reason

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the tool calls of a finished answer.

        Raises:
            ModelError: a call cannot be read, one was announced and did not come, or the model said nothing at all.
        """
        reason = self.finish_reason
        calls = self._tools.whole(cut_off=reason in {"length", "content_filter"})
        if reason == "tool_use" and not calls:
            raise ModelError("model_error", "The model announced a tool call and sent none.")
        if not calls and not self._texts:
            raise _nothing_said(reason)
        return calls

    async def aclose(self) -> None:
        """Close the connection to the provider, whatever is still to come on it."""
        self._clock.stop()
        await self._source.aclose()

    async def _next_delta(self) -> Delta | None:
        delta = await self._source.next()
        if delta is None:
            return None
        for piece in delta.pieces:
            self._count(piece.text)
            self._texts.append(piece.text)
        for fragment in delta.fragments:
            self._count(fragment.id, fragment.name, fragment.arguments)
        self._tools.add(delta.fragments)
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
        if self._source.finish_reason in _FAILED:
            raise ModelError("model_error", "The provider reported an error.")


def _nothing_said(reason: FinishReason) -> ModelError:
    if reason == "content_filter":
        return ModelError("content_filtered", "The provider's content filter let nothing of the answer through.")
    if reason == "length":
        return ModelError("model_error", "The model reached the limit of its output before it said anything.")
    return ModelError("model_error", "The model ended its answer without saying anything.")
