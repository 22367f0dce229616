"""Chats of an Open WebUI export, with all that is in them."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.formats.open_webui_export import is_open_webui_chat, open_webui_chat
from tests.support.exports.conversations import LANGUAGES, open_webui, open_webui_message
from tests.support.exports.files import Json
from tests.support.exports.outlines import outline

GIF = b64encode(b"GIF89a\x01\0\x01\0").decode()


def read(*messages: Json, **chat: Any) -> list[str]:
    return outline(open_webui_chat(open_webui(*messages, **chat)).messages)


def test_a_chat_keeps_its_title_times_and_models() -> None:
    chat = open_webui_chat(
        open_webui(
            open_webui_message("q", None, "user", "Why is it blue?", models=["llama3.3:70b"]),
            open_webui_message("a", "q", "assistant", "Scattering.", timestamp=1740823202000, model="qwen3"),
            open_webui_message("b", "a", "assistant", "Really."),
        )
    )
    assert (chat.source_format, chat.source_id, chat.title) == ("open-webui", "c1", "The sky")
    assert chat.created_at == datetime(2025, 3, 1, 9, 59, 59, tzinfo=UTC)
    assert outline(chat.messages) == [
        "q < None user: Why is it blue? *",
        "a < q assistant: Scattering. *",
        "b < a assistant: Really. *",
    ]
    assert [message.said_at and message.said_at.second for message in chat.messages] == [0, 2, 0]
    assert [message.model for message in chat.messages] == [None, "qwen3", "llama3.3:70b"]
    assert chat.left_out == {}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_texts_of_all_languages_are_kept(text: str) -> None:
    assert read(open_webui_message("q", None, "user", text)) == [f"q < None user: {text} *"]


def test_answers_of_several_models_are_alternatives() -> None:
    assert read(
        open_webui_message("q", None, "user", "Hello", childrenIds=["b", "a"]),
        open_webui_message("a", "q", "assistant", "Hi from a"),
        open_webui_message("b", "q", "assistant", "Hi from b"),
        open_webui_message("c", "q", "assistant", "Hi from c"),
    ) == [
        "q < None user: Hello *",
        "b < q assistant: Hi from b",
        "a < q assistant: Hi from a",
        "c < q assistant: Hi from c *",
    ]


def test_chats_of_the_first_releases_have_a_list() -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    old = {
        "id": "old",
        "title": "Old",
        "models": ["llama2"],
        "timestamp": 1700000000000,
        "history": {},
        "messages": messages,
    }
    for exported in (old, {"chat": old, "id": "old"}):
        chat = open_webui_chat(exported)
        assert (chat.source_id, chat.title) == ("old", "Old")
        assert chat.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        assert outline(chat.messages) == ["1 < None user: Hello *", "2 < 1 assistant: Hi *"]
        assert chat.messages[1].model == "llama2"


def test_an_empty_chat_has_no_messages() -> None:
    assert read() == []


def test_rendered_reasoning_and_calls_are_taken_apart() -> None:
    answer = (
        '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds</summary>\n'
        "> I should look.\n> Now.\n</details>\n"
        "I look.\n"
        '<details type="tool_calls" done="true" id="call_1" name="get_weather" '
        'arguments="&quot;{\\&quot;city\\&quot;: \\&quot;Oslo\\&quot;}&quot;" result="&quot;Sunny&quot;" files="">\n'
        "<summary>Tool Executed</summary>\n</details>\n"
        "It is sunny."
    )
    assert read(open_webui_message("a", None, "assistant", answer)) == [
        'a < None assistant: (I should look.\nNow.) | I look. | call_1=get_weather({"city": "Oslo"}) *',
        "a#2 < a tool: call_1: Sunny *",
        "a#3 < a#2 assistant: It is sunny. *",
    ]


def test_recorded_output_is_taken_before_the_rendered_text() -> None:
    output = [
        {"type": "reasoning", "content": [{"type": "output_text", "text": "I should look."}], "duration": 2},
        {"type": "message", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Oslo"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "Sunny"}]},
        {"type": "open_webui:code_interpreter", "lang": "python", "code": "1 + 1", "output": {"result": "2"}},
        {"type": "hologram"},
    ]
    chat = open_webui_chat(open_webui(open_webui_message("a", None, "assistant", "rendered", output=output)))
    assert outline(chat.messages) == [
        'a < None assistant: (I should look.) | I look. | call_1=get_weather({"city": "Oslo"}) *',
        "a#2 < a tool: call_1: Sunny *",
        'a#3 < a#2 assistant: a:5=code_interpreter({"lang": "python", "code": "1 + 1"}) *',
        'a#4 < a#3 tool: a:5: {"result": "2"} *',
    ]
    assert chat.left_out == {"content of the type hologram": 1}


def test_a_question_with_tags_is_left_as_it_was_written() -> None:
    text = '<details type="reasoning">\nmine\n</details>'
    assert read(open_webui_message("q", None, "user", text)) == [f"q < None user: {text} *"]


def test_files_are_images_context_or_left_out() -> None:
    files = [
        {"type": "image", "url": f"data:image/gif;base64,{GIF}"},
        {"type": "image", "url": "/api/v1/files/7/content", "name": "a.png"},
        {"type": "image", "url": "data:image/svg+xml,<svg/>"},
        {"type": "file", "name": "plan.txt", "file": {"id": "8", "data": {"content": "My plan"}}},
        {"type": "file", "name": "b.pdf", "file": {"id": "9", "data": None}},
        {"type": "collection", "name": "Library"},
    ]
    chat = open_webui_chat(open_webui(open_webui_message("q", None, "user", "Look", files=files)))
    assert outline(chat.messages) == [
        (
            "q < None user: Look | [image/gif] | [/api/v1/files/7/content a.png]"
            ' | context {"file_name": "plan.txt", "media_type": null, "text": "My plan"} *'
        )
    ]
    assert chat.left_out == {"images of other kinds": 1, "attached files": 2}


def test_a_content_may_be_a_list_of_parts() -> None:
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    assert read(open_webui_message("q", None, "user", content)) == [
        "q < None user: Look | [https://example.org/a.png] *"
    ]


def test_the_format_is_recognized_by_its_chat_or_history() -> None:
    assert is_open_webui_chat(open_webui())
    assert is_open_webui_chat({"history": {"messages": {}}, "messages": []})
    assert not is_open_webui_chat({"messages": []})


@pytest.mark.parametrize(
    ("damaged", "fault"),
    [
        ({"chat": 3}, "chat is not an object"),
        ({"chat": {}}, "messages is not an array"),
        (open_webui(history=[]), "history is not an object"),
        (open_webui(history={"messages": {"a": 3}}), "message 'a': it is not an object"),
        ({"chat": {"messages": [3]}}, "message 1: it is not an object"),
        (open_webui(open_webui_message("a", "z", "user", "")), "the parent 'z' of message 'a' is missing"),
        (
            open_webui(open_webui_message("a", "b", "user", ""), open_webui_message("b", "a", "user", "")),
            "the parents of message 'a' form a circle",
        ),
        (open_webui(open_webui_message("a", None, "cat", "")), "message 'a': the role 'cat' is unknown"),
        (open_webui(open_webui_message("a", None, "user", {})), "message 'a': content is not an array"),
        (open_webui(open_webui_message("a", None, "user", "", timestamp=1e25)), "message 'a': timestamp is no time"),
        (
            open_webui(open_webui_message("a", None, "user", "a\0")),
            "message 'a': text must not contain the NUL character (U+0000)",
        ),
    ],
)
def test_a_damaged_chat_is_refused_with_the_place(damaged: Json, fault: str) -> None:
    with pytest.raises(ImportFormatError) as refused:
        open_webui_chat(damaged)
    assert str(refused.value) == fault
