"""A digest covers everything of an event, and no two events are encoded alike."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from audit.proofs.event_digest import DigestedEvent

EVENT = DigestedEvent(
    position=7,
    aggregate="conversation",
    aggregate_id=UUID("01a1fcdb-2f79-7502-8e7f-3aecd04c02a9"),
    version=2,
    type="MessageAdded",
    actor="user:alice",
    request_id=None,
    recorded_at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    salt=b"0123456789abcdef",
    content='{"content": "Grüße"}',
)
ERASED = EVENT._replace(
    salt=None, content=None, content_hash=sha256(b"0123456789abcdef" + '{"content": "Grüße"}'.encode()).digest()
)


def test_the_encoding_is_that_of_postgresql() -> None:
    days = 26 * 365 + 7 + 1  # with the leap days from 2000 to 2024, up to 2 January 2026
    microseconds = ((days * 24 + 3) * 60 + 4) * 60_000_000 + 5_678_901
    content_hash = sha256(b"0123456789abcdef" + '{"content": "Grüße"}'.encode()).digest()
    encoded = [
        bytes.fromhex("0000000000000007"),  # position
        bytes.fromhex("01a1fcdb2f7975028e7f3aecd04c02a9"),  # aggregate_id
        bytes.fromhex("00000002"),  # version
        microseconds.to_bytes(8),  # recorded_at
        content_hash,
        bytes.fromhex("0000000c 0000000c 0000000a ffffffff"),  # the lengths of the texts, -1 for no request
        b"conversationMessageAddeduser:alice",
    ]
    assert EVENT.digest() == sha256(b"".join(encoded)).digest()


def test_an_erased_event_keeps_its_digest() -> None:
    assert ERASED.digest() == EVENT.digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"position": 8},
        {"aggregate": "agent"},
        {"aggregate_id": UUID(int=1)},
        {"version": 3},
        {"type": "MessageAdde", "actor": "duser:alice"},
        {"aggregate": "conversationM", "type": "essageAdded"},
        {"actor": "user:alicer", "request_id": None},
        {"actor": "user:al", "request_id": "ice"},
        {"request_id": ""},
        {"request_id": "1"},
        {"recorded_at": EVENT.recorded_at + timedelta(microseconds=1)},
        {"salt": b"0123456789abcdeg"},
        {"content": "{}"},
        {"salt": b"0123456789abcdef{", "content": EVENT.content},
    ],
)
def test_every_change_gives_another_digest(changes: dict[str, Any]) -> None:
    assert EVENT._replace(**changes).digest() != EVENT.digest()


@pytest.mark.parametrize(
    "changes", [{"salt": None}, {"content": None}, {"content_hash": bytes(32)}, {"content": None, "salt": None}]
)
def test_an_event_is_whole_or_erased(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="erased content"):
        EVENT._replace(**changes).digest()


def test_the_event_as_json() -> None:
    assert EVENT.to_json() == {
        "position": 7,
        "aggregate": "conversation",
        "aggregate_id": "01a1fcdb-2f79-7502-8e7f-3aecd04c02a9",
        "version": 2,
        "type": "MessageAdded",
        "actor": "user:alice",
        "request_id": None,
        "recorded_at": "2026-01-02T03:04:05.678901+00:00",
        "salt": b"0123456789abcdef".hex(),
        "content": '{"content": "Grüße"}',
    }
    assert ERASED.to_json().keys() == EVENT.to_json().keys() - {"salt", "content"} | {"content_hash"}
