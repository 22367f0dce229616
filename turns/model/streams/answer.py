"""One streamed answer of a model: its chunks, and whether it ended regularly."""

from collections.abc import Iterable

from turns.model.errors import ModelError
from turns.model.gateway_types import FinishReason, ModelChunk, ToolCall
from turns.model.streams.deadlines import Deadlines
from turns.model.streams.finish_reasons import empty_answer, require_regular_finish, translated_finish_reason
from turns.model.streams.openai_chunks import Delta
from turns.model.streams.provider_streams import ProviderStream
from turns.model.streams.sse_parser import MAX_ANSWER_SIZE, answer_too_large
from turns.model.streams.tool_fragments import ToolFragments


class StreamedAnswer:
    """One streamed answer of a model that may call the tools `tool_names`.

    It owns `source`. Call `read` until it returns None, and `aclose` in any case.
    """

    def __init__(self, source: ProviderStream, deadlines: Deadlines, tool_names: Iterable[str]) -> None:
        self._source = source
        self._deadlines = deadlines
        self._texts: list[str] = []
        self._size = 0
        self._tools = ToolFragments(tool_names)

    async def read(self) -> list[ModelChunk] | None:
        """Return the next chunks, or None when the answer is finished.

        The list is empty for a fragment of a tool call.

        Raises:
            ModelError: the provider failed, disconnected, was too slow, sent too much, or sent no finish reason.
        """
        try:
            while (delta := await self._deadlines.limit(self._next_delta())) is not None:
                has_token = bool(delta.pieces or delta.fragments)
                self._deadlines.received(token=has_token, finish=self._source.finish_reason is not None)
                if has_token:
                    return delta.pieces
        except ModelError:
            if self._source.finish_reason is None:  # what comes after the finish is no part of the answer
                raise
        require_regular_finish(self._source.finish_reason)
        return None

    @property
    def text(self) -> str:
        """The text received so far, with the reasoning."""
        return "".join(self._texts)

    @property
    def usage_reports(self) -> Iterable[object]:
        """The provider's chunks in which usage may be."""
        return self._source.usage_reports

    @property
    def finish_reason(self) -> FinishReason:
        """The finish reason, in our words."""
        return translated_finish_reason(self._source.finish_reason, has_tool_calls=self._tools.begun)

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the tool calls of a finished answer.

        Raises:
            ModelError: a call cannot be read, an announced call is missing, or the answer is empty.
        """
        reason = self.finish_reason
        calls = self._tools.complete_calls(cut_off=reason in {"length", "content_filter"})
        if reason == "tool_use" and not calls:
            raise ModelError("model_error", "The model announced a tool call and sent none.")
        if not calls and not self._texts:
            raise empty_answer(reason)
        return calls

    async def aclose(self) -> None:
        """Close the connection to the provider without reading the rest."""
        await self._source.aclose()

    async def _next_delta(self) -> Delta | None:
        delta = await self._source.next()
        if delta is None:
            return None
        for piece in delta.pieces:
            self._add_size(piece.text)
            self._texts.append(piece.text)
        for fragment in delta.fragments:
            self._add_size(fragment.id, fragment.name, fragment.arguments)
        self._tools.add(delta.fragments)
        return delta

    def _add_size(self, *texts: str | None) -> None:
        self._size += sum(len(text) for text in texts if text)
        if self._size > MAX_ANSWER_SIZE:
            raise answer_too_large()
