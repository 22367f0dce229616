"""Providers' finish reasons: their translation, and those that report a failure."""

import pytest

from turns.model.errors import ModelError
from turns.model.gateway_types import FinishReason
from turns.model.streams.finish_reasons import empty_answer, require_regular_finish, translated_finish_reason


@pytest.mark.parametrize(
    ("words", "translation"),
    [
        ("stop end_turn stop_sequence eos STOP", "stop"),
        ("length max_tokens max_output_tokens MAX_TOKENS", "length"),
        ("tool_calls tool_use function_call", "tool_use"),
        ("content_filter refusal SAFETY RECITATION", "content_filter"),
    ],
)
def test_a_providers_word_is_translated_in_any_case(words: str, translation: FinishReason) -> None:
    for word in words.split():
        assert translated_finish_reason(word, has_tool_calls=False) == translation
        require_regular_finish(word)


def test_a_plain_stop_after_tool_calls_is_tool_use() -> None:
    assert translated_finish_reason("stop", has_tool_calls=True) == "tool_use"
    assert translated_finish_reason("length", has_tool_calls=True) == "length"


@pytest.mark.parametrize("word", [None, "error", "abort", "ERROR", "Error", "ABORT"])
def test_an_answer_without_a_regular_finish_is_an_error(word: str | None) -> None:
    with pytest.raises(ModelError) as failed:
        require_regular_finish(word)
    assert failed.value.code == "model_error"


@pytest.mark.parametrize(
    ("reason", "code"), [("content_filter", "content_filtered"), ("length", "model_error"), ("stop", "model_error")]
)
def test_an_empty_answer_is_an_error_with_the_code_of_its_reason(reason: FinishReason, code: str) -> None:
    assert empty_answer(reason).code == code
