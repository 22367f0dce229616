"""Conversations from other programs are recorded once, images beside the log."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from audit.conversation_importer import ConversationImporter
from audit.imports.formats.chatgpt_export import chatgpt_conversation
from audit.imports.formats.openai_messages import openai_conversation
from audit.imports.import_plan import ImportPlan
from audit.imports.imported_conversation import ImageReference, ImportedConversation
from commands.commands import Caller
from domain.content import ImageBlock
from tests.support.exports.conversations import chatgpt, node
from tests.support.store import ALICE, Store, rows, value

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


def no_image(_: ImageReference) -> None:
    return None


async def record(
    store: Store, conversation: ImportedConversation = REGENERATED, caller: Caller = ALICE, **options: Any
) -> ImportPlan | None:
    return await ConversationImporter(store.commands, caller, options.get("find_image", no_image)).record(conversation)


async def test_a_conversation_is_recorded_with_its_branches(here: Store, database_url: str) -> None:
    plan = await record(here)
    assert plan is not None
    state = await here.conversations.state(plan.conversation_id, owner_id="alice")
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
    assert await record(here) is not None
    head = await here.log.head()
    assert await record(here) is None
    assert await here.log.head() == head


async def test_a_conversation_that_was_deleted_is_not_brought_back(here: Store) -> None:
    plan = await record(here)
    assert plan is not None
    await here.commands.delete(ALICE, plan.conversation_id)
    assert await record(here) is None


async def test_each_owner_has_its_own(here: Store) -> None:
    first, second = await record(here), await record(here, caller=BOB)
    assert first is not None
    assert second is not None
    assert first.conversation_id != second.conversation_id
    assert (await here.conversations.state(second.conversation_id)).owner_id == "bob"


async def test_of_two_imports_at_once_one_records(here: Store, there: Store, database_url: str) -> None:
    plans = await asyncio.gather(record(here), record(there), record(here))
    assert sum(plan is not None for plan in plans) == 1
    assert value(database_url, "SELECT count(*) FROM events WHERE type = 'ConversationStarted'") == 1


async def test_images_are_stored_beside_the_log(here: Store, database_url: str) -> None:
    picture = {
        "content_type": "multimodal_text",
        "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-7"}, "Look"],
    }
    conversation = chatgpt_conversation(chatgpt(node("q", None, "user", content=picture)))
    assert await record(here, conversation, find_image=lambda _: PNG) is not None
    assert value(database_url, "SELECT count(*) FROM images") == 1


@pytest.mark.parametrize("number", [0, 3000])
async def test_a_conversation_of_any_length_is_one_command(here: Store, number: int) -> None:
    messages = [{"role": ["user", "assistant"][place % 2], "content": f"message {place}"} for place in range(number)]
    plan = await record(here, openai_conversation({"messages": messages}))
    assert plan is not None
    state = await here.conversations.state(plan.conversation_id)
    assert (state.version, state.message_count) == (number + 1, number)
