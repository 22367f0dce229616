"""Estimates of the tokens that a message takes when it is sent."""

import pytest

from domain.content import ContentBlock, ImageBlock, ReasoningBlock, Role, TextBlock, ToolResultBlock, ToolUseBlock
from projections.models.token_estimates import estimate, estimated_tokens
from tests.support.histories.free_histories import message

TEXT = TextBlock(text="Hello")
IMAGE = ImageBlock(url="https://example.com/a.png")
CALL = ToolUseBlock(id="call_1", name="lookup", input={})
RESULT = ToolResultBlock(tool_use_id="call_1", content="four")


@pytest.mark.parametrize(
    ("role", "content", "beside_tokens"),
    [
        ("user", [TEXT], 4),
        ("user", [TEXT, TEXT], 4),
        ("user", [TEXT, IMAGE], 4 + 1600),
        ("user", [IMAGE, IMAGE], 4 + 3200),
        ("assistant", [TEXT, CALL], 4 + 2),  # 6 characters of its name
        ("assistant", [CALL, CALL], 4 + 4),
        ("tool", [RESULT], 4 + 2),
        ("tool", [RESULT, RESULT], 2 * 4 + 4),  # each result is sent as a message of its own
    ],
)
def test_an_estimate_adds_the_framing_to_the_recorded_tokens(
    role: Role, content: list[ContentBlock], beside_tokens: int
) -> None:
    said = message(role, *content).model_copy(update={"tokens": 1000})
    assert estimated_tokens(said) == 1000 + beside_tokens


def test_the_share_of_the_reasoning_is_left_out() -> None:
    said = message("assistant", ReasoningBlock(text="x" * 300), TextBlock(text="y" * 100))
    assert estimated_tokens(said.model_copy(update={"tokens": 1000})) == 4 + 250


def test_a_single_text_is_estimated_without_its_content() -> None:
    assert estimate("user", 1000, None) == estimate("user", 1000, (TEXT,)) == 1004


def test_a_message_of_reasoning_alone_takes_its_framing() -> None:
    said = message("assistant", ReasoningBlock(text="x" * 300))
    assert estimated_tokens(said.model_copy(update={"tokens": 1000})) == 4
