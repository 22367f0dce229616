"""Batches of an export are bounded, and a fault comes after what is before it."""

import json
from itertools import chain
from pathlib import Path

import pytest

from audit.imports import import_batches
from audit.imports.errors import ImportFormatError
from audit.imports.import_batches import BATCH_CONVERSATIONS, ImportBatches
from tests.support.exports.files import Json, archive, json_lines


def said(number: int, words: str = "Hello") -> Json:
    return {"id": str(number), "messages": [{"role": "user", "content": words}]}


def read(batches: ImportBatches) -> list[list[str | None]]:
    """Return the ids of the conversations of all batches."""
    found: list[list[str | None]] = []
    while batch := batches.next():
        found.append([conversation.source_id for conversation in batch])
    return found


def test_a_batch_has_a_limited_number_of_conversations(tmp_path: Path) -> None:
    number = 2 * BATCH_CONVERSATIONS + 1
    batches = ImportBatches(json_lines(tmp_path / "chats.jsonl", *map(said, range(number))))
    found = read(batches)
    assert [len(batch) for batch in found] == [BATCH_CONVERSATIONS, BATCH_CONVERSATIONS, 1]
    assert list(chain.from_iterable(found)) == [str(each) for each in range(number)]


def test_a_batch_ends_when_enough_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_batches, "BATCH_BYTES", 1)
    words = "x" * 100_000  # more than one read of the parser
    batches = ImportBatches(json_lines(tmp_path / "chats.jsonl", *(said(each, words) for each in range(3))))
    assert read(batches) == [["0"], ["1"], ["2"]]


def test_an_empty_export_has_no_batch(tmp_path: Path) -> None:
    (tmp_path / "conversations.json").write_text("[]")
    assert read(ImportBatches(tmp_path)) == []


def test_a_fault_is_raised_after_what_is_before_it_and_again(tmp_path: Path) -> None:
    batches = ImportBatches(json_lines(tmp_path / "chats.jsonl", said(1), said(2), {"messages": 3}))
    assert [conversation.source_id for conversation in batches.next()] == ["1", "2"]
    for _ in range(2):
        with pytest.raises(ImportFormatError, match=r"^chats\.jsonl: conversation 3: messages is not an array$"):
            batches.next()


def test_all_bytes_are_counted(tmp_path: Path) -> None:
    parts = {
        name: json.dumps([said(number)])
        for number, name in enumerate(("conversations-000.json", "conversations-001.json"))
    }
    size = sum(map(len, parts.values()))
    packed = archive(tmp_path / "export.zip", {**parts, "users.json": "[]"})
    for name, text in {**parts, "users.json": "[]"}.items():
        (tmp_path / name).write_text(text)
    for path, expected in (
        (packed, size),
        (tmp_path, size),
        (tmp_path / "conversations-000.json", len(parts["conversations-000.json"])),
    ):
        batches = ImportBatches(path)
        assert (batches.read_bytes, batches.total_bytes) == (0, expected)
        read(batches)
        assert batches.read_bytes == expected


@pytest.mark.parametrize("kind", ["folder", "archive", "damaged"])
def test_a_path_without_conversations_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path
    if kind != "folder":
        path = archive(tmp_path / "export.zip", {"users.json": "[]"})
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImportFormatError, match=r"no conversations\.json is in it$|a damaged zip archive$"):
        ImportBatches(path)
