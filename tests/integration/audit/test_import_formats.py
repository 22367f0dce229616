"""Exports of all formats are recognized, and read in bounded memory."""

import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.import_formats import FORMATS, read_conversations
from audit.imports.imported_conversation import SourceFormat
from tests.support.exports.conversations import (
    chatgpt,
    claude,
    claude_message,
    claude_text,
    node,
    open_webui,
    open_webui_message,
)
from tests.support.exports.files import Json, archive, json_file, json_lines
from tests.support.exports.large_exports import MEGABYTE, large_export

EXPORTS: dict[SourceFormat, Json] = {
    "chatgpt": chatgpt(node("q", None, "user", "Hello 👋")),
    "claude": claude(claude_message("q", None, "human", claude_text("Hello 👋"))),
    "open-webui": open_webui(open_webui_message("q", None, "user", "Hello 👋")),
    "openai": {"id": "c1", "messages": [{"role": "user", "content": "Hello 👋"}]},
}


def refusal(path: Path, source_format: SourceFormat | None = None) -> str:
    with pytest.raises(ImportFormatError) as refused:
        list(read_conversations(path, source_format))
    return str(refused.value)


def test_every_format_has_a_test_here() -> None:
    assert EXPORTS.keys() == FORMATS.keys()


@pytest.mark.parametrize("source_format", EXPORTS)
@pytest.mark.parametrize("write", [json_file, json_lines], ids=["array", "lines"])
def test_a_format_is_recognized(tmp_path: Path, source_format: SourceFormat, write: Any) -> None:
    path = write(tmp_path / "export.json", EXPORTS[source_format], EXPORTS[source_format])
    for chosen in (None, source_format):
        read = list(read_conversations(path, chosen))
        assert [conversation.source_format for conversation in read] == [source_format] * 2
        assert [conversation.source_id for conversation in read] == ["c1"] * 2
        assert read == list(read_conversations(path))


def test_parts_of_an_archive_are_read_one_after_the_other(tmp_path: Path) -> None:
    first, second = chatgpt(id="c1", conversation_id="c1"), chatgpt(id="c2", conversation_id="c2")
    path = archive(
        tmp_path / "export.zip",
        {"conversations-001.json": json.dumps([second]), "conversations-000.json": json.dumps([first])},
    )
    assert [conversation.source_id for conversation in read_conversations(path)] == ["c1", "c2"]


def test_an_export_without_conversations_is_empty(tmp_path: Path) -> None:
    assert list(read_conversations(json_file(tmp_path / "conversations.json"))) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty, or not JSON"),
        (b"Dear diary", "not JSON"),
        (b"\x89PNG\r\n", "not UTF-8"),
        (b"[3]", "conversation 1: it is not an object"),
        (b'{"name": "package"}', "conversation 1: in none of the formats chatgpt, claude, open-webui, openai"),
        (b'[{"mapping": {}}, {"mapping": {}}, {"mapping": []}]', "conversation 3: mapping is not an object"),
        (b'[{"mapping": {}}, {"chat_messages": []}]', "conversation 2: mapping is not an object"),
        (b'[{"mapping": {"q": {"parent": "z"}}}]', "conversation 1: the parent 'z' of message 'q' is missing"),
        (b'[{"mapping": {"q": {}, "q": {}}}]', "conversation 1: the key 'q' is there twice in one object"),
        (b'[{"mapping": {}}, {"mapping":', "conversation 2: the file ends here, in the middle of the JSON"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "conversations.json").write_bytes(content)
    assert refusal(tmp_path / "conversations.json") == f"conversations.json: {fault}"
    assert refusal(archive(tmp_path / "export.zip", {"conversations.json": content})) == f"conversations.json: {fault}"
    assert refusal(tmp_path) == f"conversations.json: {fault}"


def test_a_fault_in_a_message_is_one_line_whatever_its_id_is(tmp_path: Path) -> None:
    path = json_file(tmp_path / "conversations.json", chatgpt(node("q\n\u202e\x1b[31m", None, "critic")))
    assert refusal(path) == (
        "conversations.json: conversation 1: message 'q\\n\\u202e\\x1b[31m': the role 'critic' is unknown"
    )


def test_a_file_in_another_format_than_the_chosen_one_is_refused(tmp_path: Path) -> None:
    path = json_file(tmp_path / "conversations.json", EXPORTS["claude"])
    assert refusal(path, "chatgpt") == "conversations.json: conversation 1: mapping is not an object"
    assert refusal(path, "openai") == "conversations.json: conversation 1: messages is not an array"


def test_the_conversations_before_a_fault_are_read(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "chats.jsonl", EXPORTS["openai"])
    with path.open("a") as file:
        file.write('{"messages": ')
    read = read_conversations(path)
    assert next(read).source_id == "c1"
    with pytest.raises(ImportFormatError, match=r"^chats\.jsonl: conversation 2: the file ends here"):
        next(read)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["file", "archive"])
def test_a_file_of_50_mb_is_read_in_little_memory(tmp_path: Path, packed: bool) -> None:
    path = large_export(tmp_path / "conversations.json", 50)
    if packed:
        path = tmp_path / "export.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as written:
            written.write(tmp_path / "conversations.json", "conversations.json")
    tracemalloc.start()
    try:
        lengths = [len(conversation.messages) for conversation in read_conversations(path)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(lengths) > 20 and set(lengths) == {120}
    assert peak < 16 * MEGABYTE
