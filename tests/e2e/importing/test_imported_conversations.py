"""Exports of all formats, imported by the command and read from a server."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from projections.catalog import prepare
from tests.support.command_line import run_here
from tests.support.exports.conversations import (
    LANGUAGES,
    chatgpt,
    claude,
    claude_message,
    claude_text,
    node,
    open_webui,
    open_webui_message,
)
from tests.support.exports.files import Json, archive, json_file, json_lines
from tests.support.http.api_client import Api
from tests.support.http.credentials import bearer, create_key
from tests.support.http.resources import MESSAGE_KEYS
from tests.support.rebuilding import url
from tests.support.servers.server_process import ServerProcess
from tests.support.waiting import PATIENCE_S, eventually

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PNG_TEXT = b64encode(PNG).decode()
ROOT = "00000000-0000-4000-8000-000000000000"
MANY_LANGUAGES = " · ".join(LANGUAGES.values())
ATTACHED = 'context {"file_name": "notes.txt", "media_type": "text/plain", "text": "Blue."}'


def chatgpt_export(folder: Path) -> Path:
    """Write an archive with a regenerated answer and an edited question."""
    asked = {
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7"}, MANY_LANGUAGES],
    }
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Adding", "content": "2 + 2"}]}
    code = {"content_type": "code", "language": "python", "text": "print(2 + 2)"}
    conversation = chatgpt(
        node("root", None, "system"),
        node("q1", "root", "user", content=asked, create_time=1700000001.5),
        node("a1", "q1", "assistant", "Pretty.", metadata={"model_slug": "gpt-4"}),
        node("t2", "q1", "assistant", content=thoughts, create_time=1700000002),
        node("c2", "t2", "assistant", content=code, recipient="python"),
        node("r2", "c2", "tool", "4", author={"role": "tool", "name": "python"}),
        node("a2", "r2", "assistant", "Four.", metadata={"model_slug": "gpt-4o"}, create_time=1700000005),
        node("q2", "a2", "user", "And 2 + 3?"),
        node("a3", "q2", "assistant", "Five."),
        node("q3", "a2", "user", "And 3 + 3?", metadata={"attachments": [{"id": "x", "mime_type": "application/pdf"}]}),
        node("a4", "q3", "assistant", "Six.", create_time=None),
    )
    files = {"export/conversations.json": json.dumps([conversation]), "export/file-7-sky.png": PNG}
    return archive(folder / "export.zip", files)


def claude_export(folder: Path) -> Path:
    """Write a folder with a regenerated answer, a tool and an attachment."""
    attached = {"file_name": "notes.txt", "file_type": "text/plain", "extracted_content": "Blue."}
    answer = (
        {"type": "thinking", "thinking": "I should look."},
        {"type": "tool_use", "id": "toolu_1", "name": "web_search", "input": {"query": "sky"}},
        {"type": "tool_result", "tool_use_id": "toolu_1", "name": "web_search", "content": [{"text": "It is blue."}]},
        claude_text("It is blue."),
    )
    (folder / "export").mkdir()
    messages = (
        claude_message("q", ROOT, "human", claude_text(MANY_LANGUAGES), attachments=[attached], files=[{"x": 1}]),
        claude_message("a1", "q", "assistant", claude_text("Grey?"), created_at="2025-03-01T10:00:01Z"),
        claude_message("a2", "q", "assistant", *answer, created_at="2025-03-01T12:00:02+02:00"),
    )
    json_file(folder / "export" / "conversations.json", claude(*messages))
    return folder / "export"


def open_webui_export(folder: Path) -> Path:
    """Write a chat that two models answered."""
    image = {"type": "image", "url": f"data:image/png;base64,{PNG_TEXT}"}
    chat = open_webui(
        open_webui_message("q", None, "user", MANY_LANGUAGES, files=[image], models=["llama3.3:70b", "qwen3"]),
        open_webui_message("a1", "q", "assistant", "Why not?", model="qwen3", timestamp=1740823201),
        open_webui_message("a2", "q", "assistant", "Because.", model="llama3.3:70b", timestamp=None),
        models=["llama3.3:70b", "qwen3"],
    )
    return json_file(folder / "chats.json", chat)


def openai_export(folder: Path) -> Path:
    """Write a line with a tool call, and one with a rejected answer."""
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
    tools = {
        "id": "c1",
        "title": "The sky",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": MANY_LANGUAGES}]},
            {"role": "assistant", "content": None, "tool_calls": [call], "model": "gpt-4o"},
            {"role": "tool", "tool_call_id": "call_1", "content": "4"},
            {"role": "assistant", "content": "Four.", "created_at": 1700000005},
        ],
    }
    said = {name: [{"role": "assistant", "content": name}] for name in ("preferred_output", "non_preferred_output")}
    preferred = {"input": {"messages": [{"role": "user", "content": "Which?"}]}, **said, "title": "Preference"}
    return json_lines(folder / "chats.jsonl", tools, preferred)


EXPORTS: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "chatgpt": (
        chatgpt_export,
        "Recorded 1 conversation with 10 messages. Left out: attached files (1).",
        [
            f"user 2023-11-14T22:13:21.500000Z: [image/png] | {MANY_LANGUAGES}",
            "assistant gpt-4 superseded: Pretty.",
            "assistant 2023-11-14T22:13:22.000000Z: (Adding\n\n2 + 2)",
            'assistant: c2=python({"input": "print(2 + 2)"})',
            "tool: c2: 4",
            "assistant gpt-4o 2023-11-14T22:13:25.000000Z: Four.",
            "user superseded: And 2 + 3?",
            "assistant superseded: Five.",
            "user: And 3 + 3?",
            "assistant: Six.",
        ],
    ),
    "claude": (
        claude_export,
        "Recorded 1 conversation with 5 messages. Left out: attached files (1).",
        [
            f"user 2025-03-01T10:00:00.500000Z: {MANY_LANGUAGES} | {ATTACHED}",
            "assistant 2025-03-01T10:00:01.000000Z superseded: Grey?",
            'assistant 2025-03-01T10:00:02.000000Z: (I should look.) | toolu_1=web_search({"query": "sky"})',
            "tool 2025-03-01T10:00:02.000000Z: toolu_1: It is blue.",
            "assistant 2025-03-01T10:00:02.000000Z: It is blue.",
        ],
    ),
    "open-webui": (
        open_webui_export,
        "Recorded 1 conversation with 3 messages.",
        [
            f"user 2025-03-01T10:00:00.000000Z: {MANY_LANGUAGES} | [image/png]",
            "assistant qwen3 2025-03-01T10:00:01.000000Z superseded: Why not?",
            "assistant llama3.3:70b: Because.",
        ],
    ),
    "openai": (
        openai_export,
        "Recorded 2 conversations with 8 messages.",
        [
            "system: Be brief.",
            f"user: {MANY_LANGUAGES}",
            'assistant gpt-4o: call_1=add({"a": 2, "b": 2})',
            "tool: call_1: 4",
            "assistant 2023-11-14T22:13:25.000000Z: Four.",
        ],
    ),
}


def outline(message: Json) -> str:
    """Return a line: role, model, time in the source, status, and blocks."""
    assert message.keys() == MESSAGE_KEYS
    status = None if message["status"] == "completed" else message["status"]
    known = [message["role"], message["model"], message["said_at"], status]
    return f"{' '.join(word for word in known if word)}: {' | '.join(map(shown, message['content']))}"


def shown(block: Json) -> str:
    match block["type"]:
        case "reasoning":
            return f"({block['text']})"
        case "context":
            return f"context {json.dumps(block['data'], sort_keys=True)}"
        case "image":
            assert block["data"] == PNG_TEXT
            return f"[{block['media_type']}]"
        case "tool_use":
            return f"{block['id']}={block['name']}({json.dumps(block['input'], sort_keys=True)})"
        case "tool_result":
            return f"{block['tool_use_id']}: {block['content']}"
        case _:
            return block["text"]


def imported(conninfo: str, path: Path, *options: str) -> str:
    """Import an export as a user does, and return what the command prints."""
    done = run_here("import", path, *options, "--database-url", url(conninfo))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.removesuffix("\n")


def listed(api: Api, number: int, **headers: str) -> list[Json]:
    """Wait until an owner has so many conversations, and return them."""

    def there() -> list[Json] | None:
        answer = api.http.get("/v1/conversations", headers=headers)
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()["data"]
        return found if len(found) == number else None

    return eventually(there)  # pyright: ignore[reportReturnType]


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """A server in a process of its own, on the log that is imported into."""
    with (
        ServerProcess("--database-url", url(database_url), model_library=False) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as http,
    ):
        yield Api(http)


@pytest.mark.parametrize("source_format", EXPORTS)
def test_an_export_shows_as_it_was(api: Api, database_url: str, tmp_path: Path, source_format: str) -> None:
    write, line, expected = EXPORTS[source_format]
    path = write(tmp_path)
    assert imported(database_url, path) == line
    conversation = next(each for each in listed(api, 1 + (source_format == "openai")) if each["title"] == "The sky")
    id_ = conversation["id"]
    assert (conversation["status"], conversation["agent_id"]) == ("idle", None)
    assert conversation["metadata"]["imported_from"].items() >= {"format": source_format, "id": "c1"}.items()
    every = api.messages(id_, include="superseded")
    assert [outline(message) for message in every] == expected
    current = [message for message in every if message["status"] == "completed"]
    assert conversation["message_count"] == len(current)
    assert api.messages(id_) == current
    assert api.messages(id_, order="desc") == current[::-1]
    head = api.events(id_)[-1]["position"]
    assert api.messages(id_, include="superseded", as_of=head) == every
    for message in every:
        assert api.get(f"/v1/conversations/{id_}/messages/{message['id']}") == message
    known = "2 were" if source_format == "openai" else "1 was"
    assert imported(database_url, path, "--format", source_format) == (
        f"Recorded 0 conversations with 0 messages. {known} there already."
    )
    assert api.messages(id_, include="superseded") == every


def test_a_preferred_answer_replaces_the_rejected_one(api: Api, database_url: str, tmp_path: Path) -> None:
    imported(database_url, openai_export(tmp_path))
    id_ = next(each["id"] for each in listed(api, 2) if each["title"] == "Preference")
    assert [outline(message) for message in api.messages(id_, include="superseded")] == [
        "user: Which?",
        "assistant superseded: non_preferred_output",
        "assistant: preferred_output",
    ]


def test_an_imported_conversation_goes_on(api: Api, database_url: str, tmp_path: Path) -> None:
    imported(database_url, chatgpt_export(tmp_path))
    (conversation,) = listed(api, 1)
    sent = api.message(conversation["id"], "Thanks")
    assert (sent["said_at"], sent["role"]) == (None, "user")
    assert [outline(message) for message in api.messages(conversation["id"])][-2:] == [
        "assistant: Six.",
        "user: Thanks",
    ]
    context = api.get(f"/v1/conversations/{conversation['id']}/context", max_tokens=4000)["messages"]
    roles = [message["role"] for message in context]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant", "user"]


def test_conversations_are_listed_by_the_time_of_the_import(api: Api, database_url: str, tmp_path: Path) -> None:
    before = api.conversation(title="Before")
    imported(database_url, claude_export(tmp_path))
    conversation, other = listed(api, 2)
    assert (conversation["title"], other["id"]) == ("The sky", before["id"])
    assert conversation["created_at"] > before["created_at"]
    assert conversation["last_message_at"] == conversation["created_at"]


def test_owners_have_conversations_of_their_own(database_url: str, tmp_path: Path) -> None:
    prepare(database_url, "turnlog")
    keys = {owner: create_key(database_url, owner)[1] for owner in ("alice", "bob", "carol")}
    path = openai_export(tmp_path)
    settings = {"TURNLOG_AUTH": "keys"}
    with (
        ServerProcess("--database-url", url(database_url), settings=settings, model_library=False) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as http,
    ):
        for owner in ("alice", "bob"):
            assert imported(database_url, path, "--owner", owner) == "Recorded 2 conversations with 8 messages."
        found = {owner: listed(Api(http), 2, **bearer(keys[owner])) for owner in ("alice", "bob")}
        assert http.get("/v1/conversations", headers=bearer(keys["carol"])).json()["data"] == []
    for owner, conversations in found.items():
        assert {each["owner_id"] for each in conversations} == {owner}
    ids: list[Any] = [each["id"] for conversations in found.values() for each in conversations]
    assert len(set(ids)) == 4
