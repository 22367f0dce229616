"""Conversations of the Claude data export, with all that is in them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.formats.claude_export import claude_conversation, is_claude_conversation
from tests.support.exports.conversations import LANGUAGES, claude, claude_message, claude_text
from tests.support.exports.files import Json
from tests.support.exports.outlines import outline

ROOT = "00000000-0000-4000-8000-000000000000"


def read(*messages: Json, **fields: Any) -> list[str]:
    return outline(claude_conversation(claude(*messages, **fields)).messages)


def test_a_conversation_keeps_its_title_and_times() -> None:
    conversation = claude_conversation(
        claude(
            claude_message("q", ROOT, "human", claude_text("Why is it blue?")),
            claude_message("a", "q", "assistant", claude_text("Scattering."), created_at="2025-03-01T10:00:02Z"),
        )
    )
    assert (conversation.source_format, conversation.source_id, conversation.title) == ("claude", "c1", "The sky")
    assert conversation.created_at == datetime(2025, 3, 1, 9, 59, 59, tzinfo=UTC)
    assert outline(conversation.messages) == ["q < None user: Why is it blue? *", "a < q assistant: Scattering. *"]
    assert [message.said_at for message in conversation.messages] == [
        datetime(2025, 3, 1, 10, 0, 0, 500_000, tzinfo=UTC),
        datetime(2025, 3, 1, 10, 0, 2, tzinfo=UTC),
    ]
    assert conversation.left_out == {}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_texts_of_all_languages_are_kept(text: str) -> None:
    assert read(claude_message("q", ROOT, "human", claude_text(text)), name=text) == [f"q < None user: {text} *"]


def test_messages_of_one_parent_are_alternatives_of_which_the_newest_leaf_is_current() -> None:
    messages = [
        claude_message("q", ROOT, "human", claude_text("Hello")),
        claude_message("a1", "q", "assistant", claude_text("Hi?"), created_at="2025-03-01T10:00:01Z"),
        claude_message("a2", "q", "assistant", claude_text("Hi!"), created_at="2025-03-01T10:00:03Z"),
        claude_message("q2", "a1", "human", claude_text("Bye"), created_at="2025-03-01T10:00:02Z"),
    ]
    assert read(*messages) == [
        "q < None user: Hello *",
        "a1 < q assistant: Hi?",
        "q2 < a1 user: Bye",
        "a2 < q assistant: Hi! *",
    ]
    assert read(*messages, current_leaf_message_uuid="q2")[-2:] == ["a1 < q assistant: Hi? *", "q2 < a1 user: Bye *"]


def test_messages_of_older_exports_follow_each_other_and_have_only_a_text() -> None:
    assert read(
        claude_message("q", None, "human", text="Hello"),
        claude_message("a", None, "assistant", text="Hi"),
        claude_message("b", None, "human", content=None, text="Bye"),
    ) == ["q < None user: Hello *", "a < q assistant: Hi *", "b < a user: Bye *"]


def test_thinking_and_tools_are_taken_apart() -> None:
    answer = claude_message(
        "a",
        "q",
        "assistant",
        {"type": "thinking", "thinking": "I should look.", "summaries": []},
        claude_text("I look."),
        {"type": "tool_use", "id": "toolu_1", "name": "web_search", "input": {"query": "sky"}},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "name": "web_search",
            "content": [{"type": "knowledge", "title": "Sky", "url": "https://example.org", "text": "It is blue."}],
            "is_error": False,
        },
        claude_text("It is blue."),
        {"type": "token_budget"},
    )
    conversation = claude_conversation(claude(claude_message("q", ROOT, "human", claude_text("Why?")), answer))
    assert outline(conversation.messages) == [
        "q < None user: Why? *",
        'a < q assistant: (I should look.) | I look. | toolu_1=web_search({"query": "sky"}) *',
        "a#2 < a tool: toolu_1: Sky\nhttps://example.org\nIt is blue. *",
        "a#3 < a#2 assistant: It is blue. *",
    ]
    assert conversation.left_out == {"content of the type token_budget": 1}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("plain", "plain"),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "local_resource", "file_path": "/a"}], '{"type": "local_resource", "file_path": "/a"}'),
        ([{"type": "image", "source": {}}, {"type": "text", "text": "a"}], "a"),
    ],
)
def test_results_are_texts(content: Any, text: str) -> None:
    use = {"type": "tool_use", "id": None, "name": "files", "input": {}}
    result = {"type": "tool_result", "name": "files", "content": content, "is_error": True}
    assert read(claude_message("a", ROOT, "assistant", use, result))[1] == f"a#2 < a tool: a:1 failed: {text} *"


def test_attachments_are_context_and_pasted_texts_are_texts() -> None:
    attachments = [
        {"file_name": "plan.txt", "file_type": "text/plain", "file_size": 7, "extracted_content": "My plan"},
        {"file_name": "", "file_type": "txt", "file_size": 7, "extracted_content": "A long text"},
        {"file_name": "empty.bin", "file_type": "", "file_size": 0, "extracted_content": ""},
    ]
    files = [
        {"file_kind": "image", "file_uuid": "u1", "file_name": "a.png"},
        {"file_name": "b.JPG"},
        {"file_kind": "document", "file_uuid": "u2", "file_name": "c.pdf"},
        {"file_name": "d.pdf"},
    ]
    question = claude_message("q", ROOT, "human", attachments=attachments, files=files)
    conversation = claude_conversation(claude(question))
    assert outline(conversation.messages) == [
        (
            'q < None user: context {"file_name": "plan.txt", "media_type": "text/plain", "text": "My plan"}'
            " | A long text | [u1 a.png] | [b.JPG b.JPG] *"
        )
    ]
    assert conversation.left_out == {"attached files": 3}


def test_the_format_is_recognized_by_its_messages() -> None:
    assert is_claude_conversation(claude())
    assert not is_claude_conversation({"mapping": {}})


@pytest.mark.parametrize(
    ("damaged", "fault"),
    [
        ({"chat_messages": None}, "chat_messages is not an array"),
        ({"chat_messages": [3]}, "message 1: it is not an object"),
        (claude(claude_message("a", "z", "human")), "the parent 'z' of message 'a' is missing"),
        (
            claude(claude_message("a", "b", "human"), claude_message("b", "a", "human")),
            "the parents of message 'a' form a circle",
        ),
        (claude(claude_message("a", ROOT, "human"), claude_message("a", ROOT, "human")), "message 'a' is there twice"),
        (claude(claude_message("a", ROOT, "cat")), "message 1: the sender 'cat' is unknown"),
        (claude(claude_message("a", ROOT, "human", content="text")), "message 1: content is not an array"),
        (claude(claude_message("a", ROOT, "human", content=[3])), "message 1: a block of content is not an object"),
        (claude(claude_message("a", ROOT, "human", created_at="soon")), "message 1: created_at is no time: 'soon'"),
        (claude(created_at=-1), "created_at is no time"),
        (
            claude(claude_message("a", ROOT, "human", claude_text("a\0"))),
            "message 1: text must not contain the NUL character (U+0000)",
        ),
    ],
)
def test_a_damaged_conversation_is_refused_with_the_place(damaged: Json, fault: str) -> None:
    with pytest.raises(ImportFormatError) as refused:
        claude_conversation(damaged)
    assert str(refused.value) == fault
