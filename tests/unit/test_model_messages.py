"""What a model is sent for each kind of message, in OpenAI's chat form."""

import json

from domain.content import (
    Content,
    ContextBlock,
    ImageBlock,
    ReasoningBlock,
    Role,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from domain.events import MessageAdded
from projections.model_messages import model_message
from tests.support.builders import BEGINNING, some_id

CALL = ToolUseBlock(id="call_1", name="search", input={"q": "Grüße", "n": 2**70})


def message(role: Role, *content: object) -> MessageAdded:
    blocks: Content = content  # pyright: ignore[reportAssignmentType]
    return MessageAdded(
        originator_id=some_id(),
        originator_version=2,
        timestamp=BEGINNING,
        actor="alice",
        message_id=some_id(),
        role=role,
        content=blocks,
        tokens=1,
        encoding="words",
    )


def test_a_single_text_is_sent_as_a_plain_string() -> None:
    assert model_message(message("user", TextBlock(text="Hello"))) == [{"role": "user", "content": "Hello"}]
    assert model_message(message("system", TextBlock(text="Be brief"))) == [{"role": "system", "content": "Be brief"}]


def test_a_picture_is_sent_as_its_address_or_as_a_data_url() -> None:
    picture = ImageBlock(media_type="image/png", data="QUJD")
    linked = ImageBlock(url="https://example.org/cat.png")
    (sent,) = model_message(message("user", TextBlock(text="What?"), picture, linked))
    assert sent["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
    ]


def test_context_is_sent_as_json_between_tags() -> None:
    (sent,) = model_message(message("user", ContextBlock(data={"page": 3, "title": "Ü"})))
    assert sent["content"] == [{"type": "text", "text": '<context>{"page":3,"title":"Ü"}</context>'}]


def test_an_answer_is_sent_as_its_words_without_its_reasoning() -> None:
    said = message("assistant", ReasoningBlock(text="Hm"), TextBlock(text="One"), TextBlock(text="Two"))
    assert model_message(said) == [{"role": "assistant", "content": "One\nTwo"}]


def test_an_answer_that_was_only_thought_is_sent_as_an_empty_one() -> None:
    assert model_message(message("assistant", ReasoningBlock(text="Hm"))) == [{"role": "assistant", "content": ""}]


def test_a_tool_call_is_sent_with_its_input_as_json() -> None:
    (sent,) = model_message(message("assistant", TextBlock(text="Let me see"), CALL))
    assert sent["content"] == "Let me see"
    (call,) = sent["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "search")
    assert json.loads(call["function"]["arguments"]) == CALL.input


def test_a_tool_call_without_words_has_no_content() -> None:
    (sent,) = model_message(message("assistant", CALL))
    assert sent["content"] is None


def test_each_tool_result_is_a_message_of_its_own() -> None:
    first, second = (ToolResultBlock(tool_use_id=f"call_{n}", content=f"[{n}]") for n in (1, 2))
    assert model_message(message("tool", first, second)) == [
        {"role": "tool", "tool_call_id": "call_1", "content": "[1]"},
        {"role": "tool", "tool_call_id": "call_2", "content": "[2]"},
    ]
