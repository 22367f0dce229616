"""The types of a model call: request, chunks, end of the answer, and time-outs."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, Field

from domain.model_usage import Usage
from domain.tools import ToolDefinition

FinishReason = Literal["stop", "length", "tool_use", "content_filter"]


class ModelRequest(BaseModel, frozen=True):
    """A request to a model."""

    model: str = Field(description="A litellm model name, or a name that the server at the API base knows.")
    messages: list[dict[str, Any]] = Field(description="The context in OpenAI's chat form.")
    temperature: float | None = Field(default=None, description="Sampling temperature; None leaves it to the provider.")
    max_output_tokens: int | None = Field(
        default=None, description="Limit of the answer; None leaves it to the provider."
    )
    tools: tuple[ToolDefinition, ...] = Field(default=(), description="Tools the model may call.")


class ModelChunk(NamedTuple):
    """One piece of text exactly as the provider sent it, never empty."""

    kind: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete tool call.

    `extra_content` is what the provider adds to the call and requires back with it.
    """

    id: str
    name: str
    input: dict[str, Any]
    extra_content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """The regular end of an answer. An answer without one has failed."""

    finish_reason: FinishReason
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelTimeouts:
    """The time limits of a call, in seconds."""

    first_token_s: float = 60
    between_tokens_s: float = 60
    total_s: float = 600


class ModelCall(Protocol):
    """An observed call of a model. It is told each step once."""

    def first_chunk(self) -> None:
        """Note that the answer begins."""
        ...

    def ended(self, end: ModelEnd) -> None:
        """Note that the answer is complete."""
        ...

    def failed(self, error: BaseException) -> None:
        """Note that the call failed or was cancelled."""
        ...


class ModelObserver(Protocol):
    """Observes the calls of models, for metrics and traces. It never gets their text."""

    def begin(self, model: str, temperature: float | None, max_output_tokens: int | None) -> ModelCall:
        """Note that a call begins."""
        ...


class _Unobserved:
    def begin(self, model: str, temperature: float | None, max_output_tokens: int | None) -> ModelCall:
        return self

    def first_chunk(self) -> None:
        pass

    def ended(self, end: ModelEnd) -> None:
        pass

    def failed(self, error: BaseException) -> None:
        pass


UNOBSERVED: ModelObserver = _Unobserved()
"""The observer that does nothing."""
