"""Lines of OpenAI-style messages: roles, parts, tools, preferences and faults."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.formats.openai_messages import is_openai_conversation, openai_conversation
from tests.support.exports.conversations import LANGUAGES
from tests.support.exports.files import Json
from tests.support.exports.outlines import outline

PNG = b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").decode()


def read(*messages: Json, **fields: Any) -> list[str]:
    return outline(openai_conversation({"messages": list(messages), **fields}).messages)


def said(role: str, content: Any = None, **fields: Any) -> Json:
    return {"role": role, "content": content, **fields}


def test_a_line_keeps_its_id_title_times_and_models() -> None:
    conversation = openai_conversation(
        {
            "id": "c1",
            "title": "The sky",
            "created_at": 1740823199,
            "model": "gpt-4o",
            "messages": [
                said("developer", "Be brief."),
                said("user", "Why is it blue?", created_at="2025-03-01T10:00:00Z"),
                said("assistant", "Scattering.", model="gpt-4o-mini", id="m3"),
                said("user", "Really?"),
                said("assistant", "Yes."),
            ],
        }
    )
    assert (conversation.source_format, conversation.source_id, conversation.title) == ("openai", "c1", "The sky")
    assert conversation.created_at == datetime(2025, 3, 1, 9, 59, 59, tzinfo=UTC)
    assert outline(conversation.messages) == [
        "1 < None system: Be brief. *",
        "2 < 1 user: Why is it blue? *",
        "m3 < 2 assistant: Scattering. *",
        "4 < m3 user: Really? *",
        "5 < 4 assistant: Yes. *",
    ]
    assert conversation.messages[1].said_at == datetime(2025, 3, 1, 10, tzinfo=UTC)
    assert [message.model for message in conversation.messages] == [None, None, "gpt-4o-mini", None, "gpt-4o"]


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_texts_of_all_languages_are_kept(text: str) -> None:
    assert read(said("user", text), title=text) == [f"1 < None user: {text} *"]


def test_a_line_of_a_fine_tuning_file_has_an_identity_by_its_content() -> None:
    line: Json = {"messages": [said("user", "Hello"), said("assistant", "Hi", weight=0)]}
    conversation = openai_conversation(line)
    assert conversation.source_id is None
    assert conversation.import_id == openai_conversation(line).import_id
    other = openai_conversation({"messages": [said("user", "Hello"), said("assistant", "Hello")]})
    assert conversation.import_id != other.import_id


def test_calls_and_results_keep_their_ids() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    custom = {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    assert read(
        said("user", "Weather?"),
        said("assistant", None, reasoning_content="I should look.", tool_calls=[call, custom]),
        said("tool", "a.txt", tool_call_id="call_2"),
        said("tool", [{"type": "text", "text": "Sunny"}], tool_call_id="call_1"),
        said("assistant", "Sunny."),
    ) == [
        "1 < None user: Weather? *",
        '2 < 1 assistant: (I should look.) | call_1=get_weather({"city": "Oslo"}) | call_2=shell({"input": "ls"}) *',
        "3 < 2 tool: call_2: a.txt *",
        "4 < 3 tool: call_1: Sunny *",
        "5 < 4 assistant: Sunny. *",
    ]


def test_calls_of_functions_in_older_files_have_no_ids() -> None:
    assert read(
        said("assistant", None, function_call={"name": "get_weather", "arguments": "{}"}),
        said("function", "Sunny", name="get_weather"),
    ) == ["1 < None assistant: 1:1=get_weather({}) *", "2 < 1 tool: 1:1: Sunny *"]


def test_parts_of_a_content_are_kept_as_far_as_possible() -> None:
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "input_image", "image_url": "https://example.org/a.png"},
        {"type": "image_url", "image_url": {"url": "data:text/plain,hello"}},
        {"type": "image_url"},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-7"}},
        {"type": "refusal", "refusal": "No."},
    ]
    conversation = openai_conversation({"messages": [said("user", parts), said("assistant", None, refusal="No!")]})
    assert outline(conversation.messages) == [
        "1 < None user: Look | [image/png] | [https://example.org/a.png] | No. *",
        "2 < 1 assistant: No! *",
    ]
    assert conversation.left_out == {
        "images of other kinds": 2,
        "content of the type input_audio": 1,
        "content of the type file": 1,
    }


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_rejected_answer_of_a_preference_is_an_alternative(wrapped: bool) -> None:
    asked = [said("user", "Hello")]
    line: Json = {
        "input": {"messages": asked, "tools": []} if wrapped else asked,
        "preferred_output": [said("assistant", "Hi!")],
        "non_preferred_output": [said("assistant", "What?")],
    }
    assert is_openai_conversation(line)
    assert outline(openai_conversation(line).messages) == [
        "1 < None user: Hello *",
        "rejected 1 < 1 assistant: What?",
        "preferred 1 < 1 assistant: Hi! *",
    ]


def test_a_line_without_messages_is_an_empty_conversation() -> None:
    assert read() == []


def test_the_format_is_recognized_by_its_messages() -> None:
    assert is_openai_conversation({"messages": []})
    assert not is_openai_conversation({"input": "a prompt"})


@pytest.mark.parametrize(
    ("damaged", "fault"),
    [
        ({"messages": None}, "messages is not an array"),
        ({"messages": [3]}, "message 1: it is not an object"),
        ({"messages": [{"content": "Hello"}]}, "message 1: role is missing"),
        ({"messages": [said("critic", "No.")]}, "message 1: the role 'critic' is unknown"),
        ({"messages": [said("user", 3)]}, "message 1: content is not an array"),
        ({"messages": [said("user", ["text"])]}, "message 1: a part of content is not an object"),
        ({"messages": [said("user", "a", id="x"), said("user", "b", id="x")]}, "message 'x' is there twice"),
        ({"messages": [said("assistant", None, tool_calls=[3])]}, "message 1: a tool call is not an object"),
        ({"messages": [said("assistant", None, tool_calls={})]}, "message 1: tool_calls is not an array"),
        ({"messages": [], "created_at": -1}, "created_at is no time"),
        ({"input": 3, "preferred_output": []}, "input.messages is not an array"),
        ({"input": [], "preferred_output": None}, "preferred_output is not an array"),
        ({"messages": [said("user", "a\0")]}, "message 1: text must not contain the NUL character (U+0000)"),
    ],
)
def test_a_damaged_line_is_refused_with_the_place(damaged: Json, fault: str) -> None:
    with pytest.raises(ImportFormatError) as refused:
        openai_conversation(damaged)
    assert str(refused.value) == fault
