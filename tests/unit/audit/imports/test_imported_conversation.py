"""A conversation has the same identity at every import, and no other has it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.imports.imported_conversation import ImportedConversation, imported_conversation
from audit.imports.message_tree import SourceNode, imported_messages
from domain.content import TextBlock
from domain.values import MAX_TITLE_CHARACTERS

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def conversation(text: str = "Hello", **changes: Any) -> ImportedConversation:
    given: dict[str, Any] = {
        "source_format": "openai",
        "source_id": None,
        "title": "The sky",
        "created_at": NOON,
        "messages": imported_messages([SourceNode("1", None, "user", (TextBlock(text=text),))], None),
        "left_out": {},
        **changes,
    }
    return imported_conversation(**given)


def test_a_source_id_is_the_identity() -> None:
    first = conversation(source_id="c1")
    assert first.import_id == conversation("Goodbye", source_id="c1", title="Renamed").import_id
    assert first.import_id != conversation(source_id="c2").import_id
    assert first.import_id != conversation(source_id="c1", source_format="claude").import_id


def test_without_a_source_id_the_content_is_the_identity() -> None:
    first = conversation()
    assert first.import_id == conversation().import_id == conversation(left_out={"sound and film": 1}).import_id
    others = [
        conversation("Goodbye"),
        conversation(title=None),
        conversation(created_at=None),
        conversation(messages=()),
        conversation(source_format="claude"),
        conversation(source_id="c1"),
    ]
    assert len({first.import_id, *(other.import_id for other in others)}) == 1 + len(others)


def test_an_identity_never_changes() -> None:
    assert str(conversation(source_id="c1").import_id) == "b83bc624-1067-5809-87bb-39046a66176a"
    assert str(conversation().import_id) == "ffb0fc26-848f-554c-b127-6af5595ca09c"


def test_only_what_was_left_out_is_counted() -> None:
    assert conversation(left_out={"hidden messages": 0, "sound and film": 2}).left_out == {"sound and film": 2}


@pytest.mark.parametrize("title", ["x" * 1000, "é" * 1000])
def test_a_long_title_is_cut(title: str) -> None:
    assert conversation(title=title).title == title[:MAX_TITLE_CHARACTERS]
