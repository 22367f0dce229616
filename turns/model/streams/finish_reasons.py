"""Translates a provider's finish reason: its own word for why an answer ended."""

from typing import Final

from turns.model.errors import ModelError
from turns.model.gateway_types import FinishReason

_TRANSLATIONS: Final[dict[str, FinishReason]] = {
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
"""Providers' words, in lower case. All others (`stop`, `end_turn`, `eos`, `stop_sequence`, …) are a plain stop."""

_FAILURES: Final = frozenset({"error", "abort"})
"""Words that report a failure, in lower case."""


def translated_finish_reason(reason: str | None, *, has_tool_calls: bool) -> FinishReason:
    """Return our word for a provider's finish reason.

    A plain stop after tool calls is `tool_use`: some servers do not tell the two apart.
    """
    translation = _TRANSLATIONS.get((reason or "").lower(), "stop")
    return "tool_use" if translation == "stop" and has_tool_calls else translation


def require_regular_finish(reason: str | None) -> None:
    """Check that a stream that ended was finished by the provider.

    Raises:
        ModelError: the provider gave no finish reason, or one that reports a failure.
    """
    if reason is None:
        raise ModelError("model_error", "The model's answer ended before it was finished.")
    if reason.lower() in _FAILURES:
        raise ModelError("model_error", "The provider reported an error.")


def empty_answer(reason: FinishReason) -> ModelError:
    """Return the error of an answer that has neither text nor tool calls."""
    if reason == "content_filter":
        return ModelError("content_filtered", "The provider's content filter let nothing of the answer through.")
    if reason == "length":
        return ModelError("model_error", "The model reached the limit of its output before it said anything.")
    return ModelError("model_error", "The model ended its answer without saying anything.")
