"""The two ways in which the chunks of an answer are read from what litellm returns, as one.

A stream of the OpenAI library, which litellm uses for OpenAI and for every server of its kind, is read directly, and as
the JSON that the server sent: it already has the shape that litellm's chunks would have, and the OpenAI library's own
objects alone took a third of a chunk's processor time. All other providers' streams are read through litellm, which
translates them.
"""

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from turns.litellm_types import LiteLLMStream
from turns.model_call import ModelChunk
from turns.model_errors import ModelError
from turns.tool_fragments import ToolFragment

MAX_ANSWER_SIZE: Final = 32 * 1024 * 1024
"""Characters of an answer, and bytes of a line of it: far more than models say, far less than PostgreSQL can hold."""

_WHOLE_ANSWER: Final = frozenset({"message", "text"})


def answer_too_large() -> ModelError:
    """The error of an answer that is not taken to its end."""
    return ModelError("model_error", "The model's answer is too large.")


class Delta(NamedTuple):
    """What one chunk of a provider adds to its answer."""

    pieces: list[ModelChunk]
    fragments: list[ToolFragment]


class ProviderStream(Protocol):
    """The deltas of an answer's first choice; what is read may raise anything where the provider sends nonsense."""

    @property
    def finish_reason(self) -> str | None:
        """Why the provider finished, in its own word; None as long as it has not said so."""
        ...

    @property
    def reports(self) -> Iterable[object]:
        """The chunks in which usage may be."""
        ...

    async def next(self) -> Delta | None:
        """The next delta; None at the end of the stream."""
        ...


def provider_stream(stream: LiteLLMStream) -> ProviderStream:
    """The cheapest way to read `stream`.

    Raises:
        ModelError: it is none of litellm's streams of a chat.
    """
    if not hasattr(stream, "completion_stream"):
        raise ModelError("model_error", "This kind of model cannot be asked: it does not chat.")
    of_openai = type(stream.completion_stream).__module__.split(".")[0] == "openai"
    return _OpenAIStream(stream) if of_openai else _TranslatedStream(stream)


class _OpenAIStream:
    def __init__(self, stream: LiteLLMStream) -> None:
        self._chunks = stream.completion_stream
        self._chunks._cast_to = object  # the library's word for JSON as it is
        response = self._chunks.response
        response.aiter_bytes = partial(_whole_lines, response.aiter_bytes())
        self.finish_reason: str | None = None
        self.reports: list[object] = []

    async def next(self) -> Delta | None:
        while (chunk := await anext(self._chunks, None)) is not None:
            if chunk.get("usage") is not None:
                self.reports.append(chunk)
            if choices := chunk.get("choices"):
                self.finish_reason = _text_or_none(choices[0].get("finish_reason")) or self.finish_reason
                return _delta_of_json(choices[0])
        return None


class _TranslatedStream:
    def __init__(self, stream: LiteLLMStream) -> None:
        self._stream = stream
        self._finished = False
        self._rest: list[object] = []

    @property
    def finish_reason(self) -> str | None:
        """Not the one in litellm's chunks: litellm makes one up where a stream just ends."""
        return self._stream.received_finish_reason or self._stream.intermittent_finish_reason

    @property
    def reports(self) -> Iterable[object]:
        return [*self._stream.chunks, *self._rest]

    async def next(self) -> Delta | None:
        while not self._finished and (chunk := await anext(self._stream, None)) is not None:
            if chunk.choices:
                self._finished = chunk.choices[0].finish_reason is not None
                return _delta_of_litellm(chunk.choices[0].delta)
        # The rest is read past litellm, which would rebuild the whole answer at the end and log it.
        self._rest += [chunk async for chunk in self._stream.completion_stream]
        return None


def _delta_of_json(choice: dict[str, Any]) -> Delta:
    """What a choice adds; one that is no piece of a stream, but a whole answer, says something that would be lost.

    Raises:
        TypeError: it is one.
    """
    if choice.get("delta") is None and not choice.keys().isdisjoint(_WHOLE_ANSWER):
        raise TypeError("the provider does not stream")
    delta: dict[str, Any] = choice.get("delta") or {}
    # Some servers call reasoning `reasoning`, most call it `reasoning_content`.
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    calls = delta.get("tool_calls") or ()
    return Delta(_pieces(reasoning, delta.get("content")), [_fragment_of_json(call) for call in calls])


def _fragment_of_json(call: dict[str, Any]) -> ToolFragment:
    function: dict[str, Any] = call.get("function") or {}
    return _fragment(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"))


def _delta_of_litellm(delta: Any) -> Delta:
    calls = delta.tool_calls or ()
    return Delta(
        _pieces(getattr(delta, "reasoning_content", None), delta.content),
        [_fragment(call.index, call.id, call.function.name, call.function.arguments) for call in calls],
    )


def _pieces(reasoning: object, content: object) -> list[ModelChunk]:
    pieces = [ModelChunk("reasoning", reasoning)] if isinstance(reasoning, str) and reasoning else []
    text = _text_or_none(content)
    return [*pieces, ModelChunk("text", text)] if text else pieces


def _fragment(index: object, call_id: object, name: object, arguments: object) -> ToolFragment:
    at = index if isinstance(index, int | float | str) else 0  # some servers count in other types, or not at all
    return ToolFragment(at, _text_or_none(call_id), _text_or_none(name), _text_or_none(arguments))


def _text_or_none(value: Any) -> str | None:
    """The same value, which a provider may send as anything.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError("the provider sent something else than text")
    return value


async def _whole_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, no piece of them without the end of a line.

    The OpenAI library copies what it has of a line for each further piece of it: 4 s of CPU for a line of 10 MB.

    Raises:
        ModelError: a line has no end.
    """
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if b"\n" in piece or b"\r" in piece:
            yield b"".join(waiting)
            waiting, size = [], 0
        elif size > MAX_ANSWER_SIZE:
            raise answer_too_large()
    yield b"".join(waiting)
