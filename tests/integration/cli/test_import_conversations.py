"""`turnlog import` says in one line what it has done, or why it could not."""

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from audit.conversation_importer import ImportCounts
from audit.imports.import_batches import BATCH_CONVERSATIONS
from cli.imports.import_conversations import outcome
from cli.main import turnlog
from commands.tokens import Tokenizer
from tests.support.exports.conversations import chatgpt, claude, claude_message, claude_text, node
from tests.support.exports.files import Json, archive, json_file, json_lines
from tests.support.exports.large_exports import short_conversations
from tests.support.rebuilding import url
from tests.support.store import rows, value

SKY = chatgpt(node("q", None, "user", "Why is it blue?"), node("a", "q", "assistant", "Scattering."))
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
RECORDED = "Recorded 1 conversation with 2 messages.\n"
NOTHING = "Nothing was recorded.\n"


def run(conninfo: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(turnlog, ["import", *map(str, arguments), "--database-url", url(conninfo)])


def check_done(result: Result, line: str) -> None:
    assert (result.exit_code, result.stdout, result.stderr) == (0, line, "")


def check_refused(result: Result, line: str, code: int = 1) -> None:
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"Error: {line}")


def events(conninfo: str) -> int:
    return value(conninfo, "SELECT count(*) FROM events")


def metadata(conninfo: str) -> Json:
    return value(conninfo, "SELECT data -> 'metadata' FROM events WHERE type = 'ConversationStarted'")


def test_conversations_are_recorded_for_the_owner_without_authentication(prepared_url: str, tmp_path: Path) -> None:
    check_done(run(prepared_url, json_file(tmp_path / "conversations.json", SKY)), RECORDED)
    recorded = rows(prepared_url, "SELECT type, actor, request_id, data ->> 'said_at' FROM events ORDER BY position")
    assert recorded == [
        ("ConversationStarted", "user:local", None, None),
        ("MessageAdded", "user:local", None, None),
        ("MessageAdded", "user:local", None, None),
    ]
    assert metadata(prepared_url) == {
        "imported_from": {"format": "chatgpt", "id": "c1", "created_at": "2023-11-14T22:13:20.250000+00:00"}
    }


def test_conversations_are_recorded_for_another_owner(prepared_url: str, tmp_path: Path) -> None:
    path = json_file(tmp_path / "conversations.json", SKY)
    for owner in ("alice", "bob@example.org"):
        check_done(run(prepared_url, path, "--owner", owner), RECORDED)
    owners = rows(prepared_url, "SELECT data ->> 'owner_id', actor FROM events WHERE version = 1 ORDER BY position")
    assert owners == [("alice", "user:alice"), ("bob@example.org", "user:bob@example.org")]


def test_a_second_import_records_only_what_is_new(prepared_url: str, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "chats.jsonl", SKY)
    check_done(run(prepared_url, path), RECORDED)
    check_done(run(prepared_url, path), "Recorded 0 conversations with 0 messages. 1 was there already.\n")
    json_lines(path, SKY, chatgpt(node("q", None, "user", "Hello"), conversation_id="c2"))
    check_done(run(prepared_url, path), "Recorded 1 conversation with 1 message. 1 was there already.\n")
    assert events(prepared_url) == 5


def test_the_outcome_names_what_was_left_out(prepared_url: str, tmp_path: Path) -> None:
    sound = {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://x"}
    strange = {"content_type": "\x1b[2Jhologram"}
    content = {"content_type": "multimodal_text", "parts": ["Listen", sound, sound, strange]}
    path = json_file(tmp_path / "conversations.json", chatgpt(node("q", None, "user", content=content)))
    left_out = "Left out: sound and film (2), content of the type \\x1b[2Jhologram (1)."
    check_done(run(prepared_url, path), f"Recorded 1 conversation with 1 message. {left_out}\n")


def test_the_outcome_is_short_whatever_was_left_out() -> None:
    counts = ImportCounts(1200, 56000, 3)
    counts.left_out.update({f"kind {number}": 100 - number for number in range(12)})
    assert outcome(counts, dry_run=True) == (
        "Would record 1,200 conversations with 56,000 messages. 3 were there already. Left out: kind 0 (100),"
        " kind 1 (99), kind 2 (98), kind 3 (97), kind 4 (96), kind 5 (95), kind 6 (94), kind 7 (93), kind 8 (92),"
        " kind 9 (91), and 2 other kinds."
    )


def test_a_dry_run_records_nothing(prepared_url: str, tmp_path: Path) -> None:
    path = json_lines(tmp_path / "chats.jsonl", SKY, SKY)
    line = "Would record 1 conversation with 2 messages. 1 was there already.\n"
    check_done(run(prepared_url, path, "--dry-run"), line)
    assert events(prepared_url) == 0
    check_done(run(prepared_url, path), line.replace("Would record", "Recorded"))


def test_images_of_an_archive_are_stored(prepared_url: str, tmp_path: Path) -> None:
    parts = [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7"}, "Look"]
    conversation = chatgpt(node("q", None, "user", content={"content_type": "multimodal_text", "parts": parts}))
    files = {"conversations.json": json.dumps([conversation]), "file-7-sky.png": PNG}
    check_done(run(prepared_url, archive(tmp_path / "export.zip", files)), "Recorded 1 conversation with 1 message.\n")
    assert rows(prepared_url, "SELECT media_type, data FROM images") == [("image/png", PNG)]


def test_tokens_are_counted_as_a_server_does(prepared_url: str, tmp_path: Path) -> None:
    run(prepared_url, json_file(tmp_path / "conversations.json", SKY))
    counted = "SELECT data ->> 'tokens', data ->> 'encoding' FROM events WHERE type = 'MessageAdded' ORDER BY position"
    expected = [(str(Tokenizer().count(text)), "o200k_base") for text in ("Why is it blue?", "Scattering.")]
    assert rows(prepared_url, counted) == expected


def test_other_processes_are_notified(prepared_url: str, tmp_path: Path) -> None:
    path = short_conversations(tmp_path / "chats.jsonl", 3 * BATCH_CONVERSATIONS)
    with psycopg.connect(prepared_url, autocommit=True) as connection:
        connection.execute("LISTEN turnlog_events")
        assert run(prepared_url, path).exit_code == 0
        heads = [int(notification.payload) for notification in connection.notifies(timeout=0)]
    assert heads
    assert 0 < heads[0] <= heads[-1] <= 9 * BATCH_CONVERSATIONS


def test_progress_is_shown_while_there_is_more(prepared_url: str, tmp_path: Path) -> None:
    result = run(prepared_url, short_conversations(tmp_path / "chats.jsonl", 3 * BATCH_CONVERSATIONS))
    number = 3 * BATCH_CONVERSATIONS
    assert (result.exit_code, result.stdout) == (
        0,
        f"Recorded {number} conversations with {2 * number} messages.\n",
    )
    assert result.stderr.startswith(f"import: recording {2 * BATCH_CONVERSATIONS} of ")


FAULTS: dict[str, tuple[str, bytes, str]] = {
    "text": ("notes.json", b"Dear diary", "notes.json: not JSON."),
    "empty": ("empty.json", b"", "empty.json: empty, or not JSON."),
    "a picture": ("sky.png", PNG, "sky.png: not UTF-8."),
    "other JSON": (
        "package.json",
        b'{"name": "x"}',
        "package.json: conversation 1: in none of the formats chatgpt, claude, open-webui, openai.",
    ),
    "cut off": (
        "conversations.json",
        json.dumps([SKY]).encode()[:-2],
        "conversations.json: conversation 1: the file ends here, in the middle of the JSON.",
    ),
    "a damaged archive": ("export.zip", b"PK\x03\x04 and so on", "export.zip: a damaged zip archive."),
    "hidden characters": ("a\x1b[2J\u202e.json", b"x", "a\\x1b[2J\\u202e.json: not JSON."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_no_export_is_one_line_and_records_nothing(
    prepared_url: str, tmp_path: Path, fault: str
) -> None:
    name, content, line = FAULTS[fault]
    (tmp_path / name).write_bytes(content)
    for options in ([], ["--dry-run"]):
        check_refused(run(prepared_url, tmp_path / name, *options), f"{line} {NOTHING}")
    assert events(prepared_url) == 0


def test_a_folder_and_an_archive_without_conversations_are_refused(prepared_url: str, tmp_path: Path) -> None:
    packed = archive(tmp_path / "export.zip", {"users.json": "[]"})
    check_refused(run(prepared_url, packed), f"export.zip: no conversations.json is in it. {NOTHING}")
    (tmp_path / "folder").mkdir()
    check_refused(run(prepared_url, tmp_path / "folder"), f"folder: no conversations.json is in it. {NOTHING}")


def test_a_path_that_cannot_be_read_is_refused(prepared_url: str, tmp_path: Path) -> None:
    missing, loop, folder = tmp_path / "missing.json", tmp_path / "loop.json", tmp_path / "export"
    loop.symlink_to(loop)
    (folder / "conversations.json").mkdir(parents=True)
    check_refused(run(prepared_url, missing), f"{missing} cannot be read: No such file or directory.\n")
    check_refused(run(prepared_url, loop), f"{loop} cannot be read: Too many levels of symbolic links.\n")
    check_refused(run(prepared_url, folder), f"{folder} cannot be read: Is a directory. {NOTHING}")


def test_a_file_in_another_format_than_the_chosen_one_is_refused(prepared_url: str, tmp_path: Path) -> None:
    path = json_file(tmp_path / "conversations.json", claude(claude_message("q", None, "human", claude_text("Hello"))))
    check_refused(
        run(prepared_url, path, "--format", "chatgpt"),
        f"conversations.json: conversation 1: mapping is not an object. {NOTHING}",
    )
    check_done(run(prepared_url, path, "--format", "claude"), "Recorded 1 conversation with 1 message.\n")


@pytest.mark.parametrize("owner", ["", "a b", "a\nb", "a\u202eb", "x" * 257])
def test_an_owner_that_is_none_is_wrong_usage(prepared_url: str, tmp_path: Path, owner: str) -> None:
    path = json_file(tmp_path / "conversations.json", SKY)
    line = "--owner: An owner's id has 1 to 256 visible characters and no space.\n"
    check_refused(run(prepared_url, path, "--owner", owner), line, code=2)


def test_an_unknown_format_is_wrong_usage(prepared_url: str, tmp_path: Path) -> None:
    result = run(prepared_url, json_file(tmp_path / "conversations.json", SKY), "--format", "gemini")
    assert result.exit_code == 2
    assert events(prepared_url) == 0


@pytest.mark.parametrize(
    ("before", "said"),
    [(1, "1 conversation was recorded before.\n"), (70, "70 conversations were recorded before.\n")],
)
def test_what_is_before_a_fault_stays_recorded(prepared_url: str, tmp_path: Path, before: int, said: str) -> None:
    path = short_conversations(tmp_path / "chats.jsonl", before)
    with path.open("a") as file:
        file.write('{"messages": [{"role": "critic", "content": "No."}]}\n')
    result = run(prepared_url, path)
    assert (result.exit_code, result.stdout) == (1, "")
    fault = f"chats.jsonl: conversation {before + 1}: message 1: the role 'critic' is unknown."
    assert result.stderr.splitlines(keepends=True)[-1] == f"Error: {fault} {said}"
    assert value(prepared_url, "SELECT count(*) FROM events WHERE type = 'ConversationStarted'") == before


def test_a_damaged_image_is_named_with_its_conversation(prepared_url: str, tmp_path: Path) -> None:
    parts = [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7"}]
    pictured = chatgpt(
        node("q", None, "user", content={"content_type": "multimodal_text", "parts": parts}), conversation_id="c2"
    )
    path = tmp_path / "export.zip"
    archive(path, {"conversations.json": json.dumps([SKY, pictured]), "file-7-sky.png": PNG * 50})
    packed = path.read_bytes()
    place = packed.index(b"file-7-sky.png") + len("file-7-sky.png") + 4
    path.write_bytes(packed[:place] + b"\xff\xff" + packed[place + 2 :])
    result = run(prepared_url, path)
    fault = "conversation 'c2': file-7-sky.png: damaged in the archive."
    check_refused(result, f"{fault} 1 conversation was recorded before.\n")


def test_no_model_library_is_loaded(prepared_url: str, tmp_path: Path) -> None:
    # In a process of its own, because other tests load it in this one.
    path = json_file(tmp_path / "conversations.json", SKY)
    program = (
        "import sys; from cli.main import turnlog; turnlog(sys.argv[1:], standalone_mode=False);"
        " sys.exit('litellm' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "import", str(path), "--database-url", url(prepared_url)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, RECORDED, "")


def test_a_message_may_hold_an_image_of_the_file(prepared_url: str, tmp_path: Path) -> None:
    address = {"url": f"data:image/png;base64,{b64encode(PNG).decode()}"}
    content: list[Any] = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": address}]
    path = json_lines(tmp_path / "chats.jsonl", {"messages": [{"role": "user", "content": content}]})
    check_done(run(prepared_url, path), "Recorded 1 conversation with 1 message.\n")
    assert value(prepared_url, "SELECT count(*) FROM images") == 1
