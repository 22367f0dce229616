"""The two sources of an answer's chunks, behind one interface.

An answer in OpenAI's shape is read from its bytes, however litellm sent the request. The answers of all other
providers are read through litellm, which translates them.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from turns.model.errors import ModelError, error_in_stream, reports_error
from turns.model.gateway_types import ModelChunk
from turns.model.litellm_library import LiteLLMStream
from turns.model.streams.openai_chunks import Delta, delta_of_choice, delta_of_json, finish_reason_of, first_choice
from turns.model.streams.sse_parser import DONE, EventParser, ServerEvent, parsed
from turns.model.streams.storable import repaired_text

if TYPE_CHECKING:
    import httpx

    from turns.model.streams.litellm_transport import ProviderCall

_HEARTBEATS: Final = frozenset({b"null", b"ping", b"pong", b"heartbeat", b"keepalive", b"keep-alive"})
"""Data of events that only keep a connection alive. Some servers send events without data for that."""

_CHUNK_NAMES: Final = frozenset({b"", b"message"})
_ERROR_NAME: Final = b"error"
_HALF_PAIR: Final = re.compile("[\ud800-\udbff]$")


class ProviderStream(Protocol):
    """The deltas of an answer's first choice.

    Reading may raise any error if the provider sends nonsense.
    """

    @property
    def finish_reason(self) -> str | None:
        """The provider's own finish reason, None as long as there is none."""
        ...

    @property
    def usage_reports(self) -> Iterable[object]:
        """The chunks in which usage may be."""
        ...

    async def next(self) -> Delta | None:
        """Return the next delta, None at the end of the stream."""
        ...

    async def aclose(self) -> None:
        """Close the connection to the provider."""
        ...


class OpenAIStream:
    """An answer in OpenAI's shape, read from the bytes of the response."""

    def __init__(self, response: "httpx.Response") -> None:
        """Take over a response of which nothing has been read."""
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.aiter_bytes()
        self._parser = EventParser()
        self._events: Iterator[ServerEvent] = iter(())
        self._ended = False
        self._refused = False
        self._surrogates = _SurrogateJoiner()
        self.finish_reason: str | None = None
        self.usage_reports: list[object] = []

    async def next(self) -> Delta | None:
        """Return the next delta, None at the end of the stream.

        Raises:
            ModelError: the provider reports an error, or the answer is too large.
            TypeError, ValueError: the provider sends something else than chunks.
        """
        while True:
            for event in self._events:
                if event.data.upper() == DONE:
                    self._ended, self._events = True, iter(())
                elif (delta := self._delta(event)) is not None:
                    return delta
            if self._ended:
                return self._surrogates.rest()
            piece = await anext(self._pieces, None)
            self._ended = piece is None
            self._events = iter(self._parser.end() if piece is None else self._parser.feed(piece))

    async def aclose(self) -> None:
        """Close the connection to the provider."""
        await self._response.aclose()

    def _delta(self, event: ServerEvent) -> Delta | None:
        """Return the delta of an event, None if the event adds nothing to the answer."""
        chunk = _chunk_of(event)
        if chunk is None:
            return None
        choice = first_choice(chunk)
        if (report := _error_in(event, chunk, choice or {})) is not None:
            raise error_in_stream(report)
        self._note_usage(chunk, choice or {})
        if choice is None:
            return None
        delta = delta_of_choice(choice)
        self._refused = self._refused or delta.is_refusal
        if (reason := finish_reason_of(choice)) is not None:
            self.finish_reason = "refusal" if self._refused else reason
        return self._surrogates.joined(delta)

    def _note_usage(self, chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        """Remember a usage in the standard's place, in Moonshot's and in Groq's."""
        for place in (chunk, choice, chunk.get("x_groq")):
            if isinstance(place, Mapping) and (usage := cast("Mapping[str, Any]", place).get("usage")):
                self.usage_reports.append({"usage": usage})


class TranslatedStream:
    """An answer in any other shape, translated by litellm."""

    def __init__(self, stream: LiteLLMStream, call: "ProviderCall") -> None:
        """Take over the stream.

        Raises:
            ModelError: it is not one of litellm's chat streams.
        """
        if not hasattr(stream, "completion_stream"):
            raise ModelError("model_error", "This kind of model cannot be asked: it does not chat.")
        self._stream = stream
        self._call = call
        self._finished = False
        self._rest: list[object] = []

    @property
    def finish_reason(self) -> str | None:
        """The provider's own finish reason, None as long as there is none."""
        # The one in litellm's chunks is not used: litellm makes one up if a stream just ends.
        return self._stream.received_finish_reason or self._stream.intermittent_finish_reason

    @property
    def usage_reports(self) -> Iterable[object]:
        """The chunks in which usage may be."""
        return [*self._stream.chunks, *self._rest]

    async def next(self) -> Delta | None:
        """Return the next delta, None at the end of the stream."""
        with self._call.active():  # some of litellm's streams send the request only when they are read
            while not self._finished and (chunk := await anext(self._stream, None)) is not None:
                if chunk.choices:
                    self._finished = chunk.choices[0].finish_reason is not None
                    return _delta_of_litellm(chunk.choices[0].delta)
            # The rest is not read through litellm, which would rebuild the whole answer at the end and log it.
            self._rest += [chunk async for chunk in self._stream.completion_stream]
        return None

    async def aclose(self) -> None:
        """Close the connection to the provider."""
        await self._stream.aclose()


def _delta_of_litellm(delta: Any) -> Delta:
    fields = {"content": delta.content, "reasoning_content": getattr(delta, "reasoning_content", None)}
    return delta_of_json({**fields, "tool_calls": [call.model_dump() for call in delta.tool_calls or ()]})


class _SurrogateJoiner:
    """Joins the halves of a surrogate pair that a server split between two chunks."""

    def __init__(self) -> None:
        self._pending: dict[Literal["text", "reasoning"], str] = {}

    def joined(self, delta: Delta) -> Delta:
        """Return the delta with no piece that ends in half a pair."""
        if not self._pending and not any(_HALF_PAIR.search(piece.text) for piece in delta.pieces):
            return delta
        pieces = [piece._replace(text=self._take(piece)) for piece in delta.pieces]
        return delta._replace(pieces=[piece for piece in pieces if piece.text])

    def rest(self) -> Delta | None:
        """Return the halves whose other half never came."""
        pieces = [ModelChunk(kind, repaired_text(half)) for kind, half in self._pending.items()]
        self._pending = {}
        return Delta(pieces, []) if pieces else None

    def _take(self, piece: ModelChunk) -> str:
        text = self._pending.pop(piece.kind, "") + piece.text
        if _HALF_PAIR.search(text):
            self._pending[piece.kind], text = text[-1], text[:-1]
        return repaired_text(text)


def _chunk_of(event: ServerEvent) -> dict[str, Any] | None:
    """Return the object in an event, None for a heartbeat.

    Raises:
        TypeError, ValueError: the event has other data.
    """
    if event.name == _ERROR_NAME and not event.data.startswith(b"{"):
        return {"message": event.data.decode("utf-8", "replace")}
    if not event.data or event.data.strip(b'"').lower() in _HEARTBEATS:
        return None
    if event.name not in _CHUNK_NAMES and not event.data.startswith(b"{"):
        return None
    return parsed(event.data)


def _error_in(event: ServerEvent, chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> object:
    """Return the error that an event reports, None if it reports none."""
    error: object = chunk.get("error") or choice.get("error")
    if error:
        return cast("object", error) if isinstance(error, str | Mapping) else chunk
    if event.name == _ERROR_NAME or (not choice and reports_error(chunk)):
        return chunk
    return None
