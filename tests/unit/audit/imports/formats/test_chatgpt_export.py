"""Conversations of the ChatGPT data export, with all that is in them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.formats.chatgpt_export import chatgpt_conversation, is_chatgpt_conversation
from tests.support.exports.conversations import LANGUAGES, chatgpt, node
from tests.support.exports.files import Json
from tests.support.exports.outlines import outline

HIDDEN = {"is_visually_hidden_from_conversation": True}
ROOT: Json = {"id": "root", "message": None, "parent": None, "children": []}


def read(*nodes: Json, **fields: Any) -> list[str]:
    return outline(chatgpt_conversation(chatgpt(*nodes, **fields)).messages)


def content(content_type: str, **fields: Any) -> Json:
    return {"content_type": content_type, **fields}


def test_a_conversation_keeps_its_title_times_and_models() -> None:
    conversation = chatgpt_conversation(
        chatgpt(
            ROOT,
            node("s", "root", "system"),
            node("q", "s", "user", "Why is it blue?", create_time=1700000001.5),
            node("a", "q", "assistant", "Scattering.", create_time=1700000002, metadata={"model_slug": "gpt-4o"}),
        )
    )
    assert (conversation.source_format, conversation.source_id, conversation.title) == ("chatgpt", "c1", "The sky")
    assert conversation.created_at == datetime(2023, 11, 14, 22, 13, 20, 250_000, tzinfo=UTC)
    assert outline(conversation.messages) == ["q < None user: Why is it blue? *", "a < q assistant: Scattering. *"]
    assert [message.said_at for message in conversation.messages] == [
        datetime(2023, 11, 14, 22, 13, 21, 500_000, tzinfo=UTC),
        datetime(2023, 11, 14, 22, 13, 22, tzinfo=UTC),
    ]
    assert [message.model for message in conversation.messages] == [None, "gpt-4o"]
    assert conversation.left_out == {}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_texts_of_all_languages_are_kept(text: str) -> None:
    assert read(node("q", None, "user", text), title=text) == [f"q < None user: {text} *"]


def test_answers_that_were_regenerated_and_questions_that_were_edited_are_alternatives() -> None:
    assert read(
        ROOT,
        node("q1", "root", "user", "Helo"),
        node("a1", "q1", "assistant", "Hi?"),
        node("q2", "root", "user", "Hello"),
        node("a2", "q2", "assistant", "Hi."),
        node("a3", "q2", "assistant", "Hi!"),
        node("q3", "a2", "user", "Bye"),
        current_node="a3",
    ) == [
        "q1 < None user: Helo",
        "a1 < q1 assistant: Hi?",
        "q2 < None user: Hello *",
        "a2 < q2 assistant: Hi.",
        "q3 < a2 user: Bye",
        "a3 < q2 assistant: Hi! *",
    ]


def test_hidden_and_empty_messages_are_left_out() -> None:
    conversation = chatgpt_conversation(
        chatgpt(
            node("s", None, "system", "", metadata=HIDDEN),
            node("h", "s", "system", "Original custom instructions no longer available", metadata=HIDDEN),
            node("q", "h", "user", "Hello"),
            node("e", "q", "assistant", ""),
            node("a", "e", "assistant", "Hi"),
        )
    )
    assert outline(conversation.messages) == ["q < None user: Hello *", "a < q assistant: Hi *"]
    assert conversation.left_out == {"hidden messages": 1}


def test_custom_instructions_become_a_system_message_though_they_are_hidden() -> None:
    context = content("user_editable_context", user_profile="I am Ann.", user_instructions="Be brief.")
    older = {
        **HIDDEN,
        "is_user_system_message": True,
        "user_context_message_data": {"about_user_message": "I am Bob.", "about_model_message": None},
    }
    assert read(
        node("i", None, "user", content=context, metadata=HIDDEN),
        node("j", "i", "system", "", metadata=older),
    ) == ["i < None system: I am Ann.\n\nBe brief. *", "j < i system: I am Bob. *"]


def test_code_and_its_output_are_a_call_and_its_result() -> None:
    assert read(
        node("q", None, "user", "Add"),
        node("c", "q", "assistant", content=content("code", language="python", text="1 + 1"), recipient="python"),
        node(
            "o", "c", "tool", content=content("execution_output", text="2"), author={"role": "tool", "name": "python"}
        ),
        node("a", "o", "assistant", "It is 2."),
    ) == [
        "q < None user: Add *",
        'c < q assistant: c=python({"input": "1 + 1"}) *',
        "o < c tool: c: 2 *",
        "a < o assistant: It is 2. *",
    ]


def test_arguments_in_json_are_the_input_of_a_call() -> None:
    canvas = content("code", language="json", text='{"name": "plan", "content": "# Plan"}')
    assert read(node("c", None, "assistant", content=canvas, recipient="canmore.create_textdoc")) == [
        'c < None assistant: c=canmore.create_textdoc({"name": "plan", "content": "# Plan"}) *'
    ]
    assert read(node("c", None, "assistant", '{"prompt": "a cat"}', recipient="dalle.text2im")) == [
        'c < None assistant: c=dalle.text2im({"prompt": "a cat"}) *'
    ]


@pytest.mark.parametrize(("language", "fence"), [("python", "```python"), ("unknown", "```"), (None, "```")])
def test_code_that_calls_nothing_is_shown_as_code(language: str | None, fence: str) -> None:
    code = content("code", language=language, text="1 + 1")
    assert read(node("c", None, "assistant", content=code)) == [f"c < None assistant: {fence}\n1 + 1\n``` *"]


def test_a_drawn_image_is_a_result_and_a_reference() -> None:
    drawn = content(
        "multimodal_text",
        parts=[{"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_7", "width": 1024}],
    )
    assert read(
        node("c", None, "assistant", '{"prompt": "a cat"}', recipient="dalle.text2im"),
        node("t", "c", "tool", content=drawn, author={"role": "tool", "name": "dalle.text2im"}),
    )[1:] == ["t < c tool: c:  *", "t#2 < t assistant: [sediment://file_7 None] *"]


def test_results_of_the_web_are_texts() -> None:
    page = content(
        "sonic_webpage", url="https://example.org", title="Example", text="An example.", domain="example.org"
    )
    quote = content("tether_quote", url="https://example.org", text="An example.", title="Example")
    display = content("tether_browsing_display", result="# Results", summary=None)
    failed = content("system_error", name="robots", text="Refused by robots.txt")
    tool: dict[str, Any] = {"author": {"role": "tool", "name": "web"}, "metadata": HIDDEN}
    assert read(
        node("c", None, "assistant", "search('x')", recipient="web"),
        node("1", "c", "tool", content=page, **tool),
        node("2", "1", "tool", content=quote, **tool),
        node("3", "2", "tool", content=display, **tool),
        node("4", "3", "tool", content=failed, **tool),
    )[1:] == [
        "1 < c tool: c: Example\n\nhttps://example.org\n\nAn example. *",
        "2 < 1 assistant: 2:1=web({}) *",
        "2#2 < 2 tool: 2:1: Example\n\nhttps://example.org\n\nAn example. *",
        "3 < 2#2 assistant: 3:1=web({}) *",
        "3#2 < 3 tool: 3:1: # Results *",
        "4 < 3#2 assistant: 4:1=web({}) *",
        "4#2 < 4 tool: 4:1 failed: Refused by robots.txt *",
    ]


def test_images_and_speech_of_the_user_are_kept_as_far_as_possible() -> None:
    parts = [
        {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7", "size_bytes": 7},
        {"content_type": "audio_transcription", "text": "What is this?", "direction": "in"},
        {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://file_8"},
        {"content_type": "real_time_user_audio_video_asset_pointer", "audio_asset_pointer": {}},
        {"content_type": "hologram"},
        "Please.",
        "",
    ]
    attachments = [{"name": "a.png", "mime_type": "image/png"}, {"name": "b.pdf", "mime_type": "application/pdf"}]
    said = node(
        "q", None, "user", content=content("multimodal_text", parts=parts), metadata={"attachments": attachments}
    )
    conversation = chatgpt_conversation(chatgpt(said))
    assert outline(conversation.messages) == ["q < None user: [file-service://file-7 None] | What is this? | Please. *"]
    assert conversation.left_out == {"attached files": 1, "sound and film": 2, "content of the type hologram": 1}


def test_thoughts_are_reasoning_and_their_recap_is_left_out() -> None:
    thoughts = [{"summary": "Colours", "content": "Think of Rayleigh."}, {"summary": "", "content": "Done."}]
    conversation = chatgpt_conversation(
        chatgpt(
            node("t", None, "assistant", content=content("thoughts", thoughts=thoughts)),
            node("u", "t", "assistant", content=content("thoughts", thoughts="All in one.")),
            node("r", "u", "assistant", content=content("reasoning_recap", content="Thought for 5 seconds")),
            node("a", "r", "assistant", "Scattering."),
        )
    )
    assert outline(conversation.messages) == [
        "t < None assistant: (Colours\n\nThink of Rayleigh.) | (Done.) *",
        "u < t assistant: (All in one.) *",
        "a < u assistant: Scattering. *",
    ]
    assert conversation.left_out == {"reasoning recaps": 1}


def test_unknown_content_is_kept_if_it_has_a_text_and_else_counted() -> None:
    conversation = chatgpt_conversation(
        chatgpt(
            node("a", None, "assistant", content=content("super_widget", text="Words", widget=7)),
            node("b", "a", "assistant", content=content("hologram", data=[1])),
        )
    )
    assert outline(conversation.messages) == ["a < None assistant: Words *"]
    assert conversation.left_out == {"content of the type hologram": 1}


def test_what_is_missing_or_null_is_no_fault() -> None:
    bare = {"mapping": {"q": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hello"]}}}}}
    conversation = chatgpt_conversation(bare)
    assert outline(conversation.messages) == ["q < None user: Hello *"]
    assert (conversation.source_id, conversation.title, conversation.created_at) == (None, None, None)
    empty = chatgpt_conversation({"mapping": {}, "title": None, "create_time": None, "current_node": None})
    assert empty.messages == ()


def test_the_format_is_recognized_by_its_tree() -> None:
    assert is_chatgpt_conversation(chatgpt())
    assert not is_chatgpt_conversation({"chat_messages": []})


@pytest.mark.parametrize(
    ("damaged", "fault"),
    [
        ({"mapping": None}, "mapping is not an object"),
        ({"mapping": []}, "mapping is not an object"),
        ({"mapping": {"a": 3}}, "node 'a' is not an object"),
        ({"mapping": {"a": {"message": "text"}}}, "message 'a': message is not an object"),
        (chatgpt(node("a", "z", "user")), "the parent 'z' of message 'a' is missing"),
        (chatgpt(node("a", "b", "user"), node("b", "a", "user")), "the parents of message 'a' form a circle"),
        (chatgpt(node("a", None, "user"), current_node="z"), "the current message 'z' is missing"),
        (chatgpt(node("a", None, "critic", "No.")), "message 'a': the role 'critic' is unknown"),
        (chatgpt(node("a", None, "user", author=None)), "message 'a': role is missing"),
        (chatgpt(node("a", None, "user", create_time=1e30)), "message 'a': create_time is no time"),
        (chatgpt(create_time="soon"), "create_time is no time: 'soon'"),
        (chatgpt(title=7), "title is not a text"),
        (
            chatgpt(node("a", None, "user", "a\0b")),
            "message 'a': text must not contain the NUL character (U+0000)",
        ),
        (
            chatgpt(node("a", None, "assistant", '{"a": "\\u0000"}', recipient="python")),
            "message 'a': input must not contain the NUL character (U+0000)",
        ),
        (
            chatgpt(node("a", None, "assistant", '{"a":' * 70 + "1" + "}" * 70, recipient="python")),
            "message 'a': input must not be nested deeper than 64 levels",
        ),
    ],
)
def test_a_damaged_conversation_is_refused_with_the_place(damaged: Json, fault: str) -> None:
    with pytest.raises(ImportFormatError) as refused:
        chatgpt_conversation(damaged)
    assert str(refused.value) == fault
