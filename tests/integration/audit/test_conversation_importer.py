"""Conversations from other programs are recorded once, images beside the log."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audit.conversation_importer import ConversationImporter, ImportCounts
from audit.imports import import_batches
from audit.imports.errors import ImportFormatError
from audit.imports.formats.chatgpt_export import chatgpt_conversation
from audit.imports.formats.openai_messages import openai_conversation
from audit.imports.import_batches import ImportBatches
from audit.imports.import_plan import recorded_id
from audit.imports.imported_conversation import ImageReference, ImportedConversation
from commands.commands import Caller
from domain.content import ImageBlock
from domain.errors import ConversationNotFoundError
from tests.support.exports.conversations import chatgpt, node
from tests.support.exports.files import Json, json_lines
from tests.support.store import ALICE, Store, blocked_backend, blocked_head, rows, value

BOB = Caller("bob", "user:bob")
PNG = ImageBlock(media_type="image/png", data=b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").decode())
REGENERATED = chatgpt_conversation(
    chatgpt(
        node("q", None, "user", "Hello"),
        node("a1", "q", "assistant", "Hi?"),
        node("a2", "q", "assistant", "Hi!", metadata={"model_slug": "gpt-4o"}),
        node("q2", "a2", "user", "Bye"),
    )
)
ID = recorded_id(REGENERATED, "alice")
PICTURE = {
    "content_type": "multimodal_text",
    "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7"}, "Look"],
}


def no_image(_: ImageReference) -> None:
    return None


def importer(store: Store, caller: Caller = ALICE, find_image: Any = no_image, **options: Any) -> ConversationImporter:
    return ConversationImporter(store.commands, caller, find_image, ImportCounts(), **options)


async def record(
    store: Store, conversations: Sequence[ImportedConversation] = (REGENERATED,), caller: Caller = ALICE, **options: Any
) -> ImportCounts:
    importing = importer(store, caller, **options)
    await importing.record(conversations)
    return importing.counts


def said(number: int) -> Json:
    return {"id": f"c{number}", "messages": [{"role": "user", "content": f"message {number}"}]}


async def test_a_conversation_is_recorded_with_its_branches(here: Store, database_url: str) -> None:
    counts = await record(here)
    assert (counts.conversations, counts.messages, counts.known, counts.left_out) == (1, 4, 0, {})
    state = await here.conversations.state(ID, owner_id="alice")
    assert (state.title, state.message_count, state.locked_by) == ("The sky", 3, None)
    assert [row[0] for row in rows(database_url, "SELECT type FROM events ORDER BY position")] == [
        "ConversationStarted",
        "MessageAdded",
        "MessageAdded",
        "MessagesSuperseded",
        "MessageAdded",
        "MessageAdded",
    ]


async def test_a_second_import_adds_nothing(here: Store) -> None:
    await record(here)
    head = await here.log.head()
    counts = await record(here)
    assert (counts.conversations, counts.messages, counts.known) == (0, 0, 1)
    assert await here.log.head() == head


async def test_equal_conversations_of_one_export_are_one(here: Store) -> None:
    counts = await record(here, [REGENERATED, REGENERATED])
    assert (counts.conversations, counts.known) == (1, 1)


async def test_a_conversation_that_was_deleted_is_not_brought_back(here: Store) -> None:
    await record(here)
    await here.commands.delete(ALICE, ID)
    assert (await record(here)).conversations == 0


async def test_each_owner_has_its_own(here: Store) -> None:
    await record(here)
    await record(here, caller=BOB)
    other = recorded_id(REGENERATED, "bob")
    assert other != ID
    assert (await here.conversations.state(other)).owner_id == "bob"


async def test_of_several_imports_at_once_one_records(here: Store, there: Store, database_url: str) -> None:
    counts = await asyncio.gather(record(here), record(there), record(here))
    assert sorted((each.conversations, each.known) for each in counts) == [(0, 1), (0, 1), (1, 0)]
    assert value(database_url, "SELECT count(*) FROM events WHERE type = 'ConversationStarted'") == 1


async def test_images_are_stored_beside_the_log(here: Store, database_url: str) -> None:
    conversation = chatgpt_conversation(chatgpt(node("q", None, "user", content=PICTURE)))
    assert (await record(here, [conversation], find_image=lambda _: PNG)).messages == 1
    assert value(database_url, "SELECT count(*) FROM images") == 1


async def test_a_conversation_that_cannot_be_recorded_is_named_and_the_others_are_recorded(here: Store) -> None:
    def damaged(_: ImageReference) -> None:
        raise ImportFormatError("file-7.png: damaged in the archive")

    conversations = [
        chatgpt_conversation(chatgpt(node("q", None, "user", content=PICTURE), conversation_id="c\n1")),
        *(openai_conversation(said(number)) for number in range(3)),
    ]
    importing = importer(here, find_image=damaged)
    with pytest.raises(ImportFormatError) as refused:
        await importing.record(conversations)
    assert str(refused.value) == r"conversation 'c\n1': file-7.png: damaged in the archive"
    assert (importing.counts.conversations, importing.counts.messages) == (3, 3)
    with pytest.raises(ConversationNotFoundError):
        await here.conversations.state(recorded_id(conversations[0], "alice"))


async def test_content_that_no_event_can_hold_is_a_fault_of_its_conversation(here: Store) -> None:
    conversation = chatgpt_conversation(chatgpt(node("q", None, "user", content=PICTURE)))
    wrong = ImageBlock(media_type="image/gif", data=PNG.data)
    with pytest.raises(ImportFormatError, match=r"^conversation 'c1': The bytes are image/png, not image/gif\.$"):
        await record(here, [conversation], find_image=lambda _: wrong)


async def test_a_dry_run_counts_the_same_and_records_nothing(here: Store, database_url: str) -> None:
    await record(here, [openai_conversation(said(1))])
    head = await here.log.head()
    conversations = [
        REGENERATED,
        openai_conversation(said(1)),
        REGENERATED,
        chatgpt_conversation(chatgpt(node("q", None, "user", content=PICTURE), conversation_id="c2")),
    ]
    checking = importer(here, find_image=lambda _: PNG, dry_run=True)
    for conversation in conversations:
        await checking.record([conversation])
    assert (await here.log.head(), value(database_url, "SELECT count(*) FROM images")) == (head, 0)
    assert checking.counts == await record(here, conversations, find_image=lambda _: PNG)


async def test_a_dry_run_finds_what_cannot_be_recorded(here: Store) -> None:
    conversation = chatgpt_conversation(chatgpt(node("q", None, "user", content=PICTURE)))
    wrong = ImageBlock(media_type="image/gif", data=PNG.data)
    with pytest.raises(ImportFormatError, match="not image/gif"):
        await record(here, [conversation], find_image=lambda _: wrong, dry_run=True)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_conversation_that_would_take_too_long_to_commit_is_refused(here: Store, dry_run: bool) -> None:
    words = "x" * 1_000_000
    sixteen, seventeen = (
        openai_conversation({"id": f"c{number}", "messages": [{"role": "user", "content": words}] * number})
        for number in (16, 17)
    )
    importing = importer(here, dry_run=dry_run)
    with pytest.raises(ImportFormatError, match=r"^conversation 'c17': longer than 16 MiB$"):
        await importing.record([seventeen, sixteen])
    assert (importing.counts.conversations, importing.counts.messages) == (1, 16)


@pytest.mark.parametrize("number", [0, 3000])
async def test_a_conversation_of_any_length_is_one_command(here: Store, number: int) -> None:
    messages = [{"role": ["user", "assistant"][place % 2], "content": f"message {place}"} for place in range(number)]
    conversation = openai_conversation({"messages": messages})
    await record(here, [conversation])
    state = await here.conversations.state(recorded_id(conversation, "alice"))
    assert (state.version, state.message_count) == (number + 1, number)


async def test_an_export_is_recorded_batch_by_batch(
    here: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_batches, "BATCH_CONVERSATIONS", 3)
    batches = ImportBatches(json_lines(tmp_path / "chats.jsonl", *map(said, range(8))))
    importing = importer(here)
    reported: list[int] = []
    await importing.record_all(batches, lambda: reported.append(importing.counts.conversations))
    assert (importing.counts.conversations, reported) == (8, [3, 6])
    assert importing.counts.read_bytes == batches.total_bytes


async def test_what_was_read_before_a_fault_is_recorded(
    here: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_batches, "BATCH_CONVERSATIONS", 3)
    importing = importer(here)
    with pytest.raises(ImportFormatError, match=r"^chats\.jsonl: conversation 6: "):
        await importing.record_all(
            ImportBatches(json_lines(tmp_path / "chats.jsonl", *map(said, range(5)), {"messages": 1}))
        )
    assert importing.counts.conversations == 5
    assert await here.log.head() == 10


async def test_an_import_that_is_cancelled_counts_what_it_has_recorded(
    here: Store, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_batches, "BATCH_CONVERSATIONS", 3)
    importing = importer(here)
    with blocked_head(database_url) as unblock:
        batches = ImportBatches(json_lines(tmp_path / "chats.jsonl", *map(said, range(6))))
        running = asyncio.create_task(importing.record_all(batches))
        await blocked_backend(database_url)
        running.cancel()
        unblock()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert importing.counts.conversations == 3
    assert value(database_url, "SELECT count(*) FROM events WHERE type = 'ConversationStarted'") == 3
