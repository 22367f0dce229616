"""Checkpoints are signed, and an event is proven to be in the log of one."""

import json
from base64 import b64decode
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.errors import LogDamagedError, NoSuchEventError
from audit.proofs.checkpoints import Checkpoint, parse_checkpoint
from audit.proofs.event_digest import DigestedEvent
from audit.proofs.inclusion import verify_inclusion
from audit.proofs.merkle_tree import EMPTY_ROOT, leaf_hash
from audit.proofs.proof_text import InclusionProof
from audit.proofs.signed_notes import NoteKey, open_note
from audit.seals.proving import prove_event, sign_checkpoint
from eventlog.db.database import Database
from tests.support.audits import DIGEST, ERASE, conversation_of, sealed, tamper
from tests.support.histories.builders import one_of_each
from tests.support.naive_merkle import mth
from tests.support.store import Store, rows, value

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def opened_note(note: str) -> Checkpoint:
    """Return the checkpoint of a note that KEY has signed under the log's name."""
    key = NoteKey(note.splitlines()[0], KEY.public_key().public_bytes_raw())
    return parse_checkpoint(open_note(note.encode(), [key]))


async def checkpoint(conninfo: str) -> Checkpoint:
    async with await Database(conninfo).connect() as connection:
        return opened_note(await sign_checkpoint(connection, KEY))


async def proof(conninfo: str, position: int) -> InclusionProof:
    async with await Database(conninfo).connect() as connection:
        return await prove_event(connection, position, KEY)


def event_of(proof: InclusionProof) -> DigestedEvent:
    """Return the event that a proof holds."""
    shown = json.loads(proof.extra)
    for name in ("salt", "content_hash"):
        if name in shown:
            shown[name] = bytes.fromhex(shown[name])
    shown["aggregate_id"] = UUID(shown["aggregate_id"])
    shown["recorded_at"] = datetime.fromisoformat(shown["recorded_at"])
    fields: dict[str, Any] = {"salt": None, "content": None, **shown}
    return DigestedEvent(**fields)


def digests(conninfo: str) -> list[bytes]:
    return [row[0] for row in rows(conninfo, "SELECT digest FROM events ORDER BY position")]


async def test_a_checkpoint_covers_the_whole_log_sealed_or_not(here: Store, database_url: str) -> None:
    origin = f"turnlog/{value(database_url, 'SELECT log_id FROM sealed_tree')}"
    assert await checkpoint(database_url) == Checkpoint(origin, 0, EMPTY_ROOT)
    await here.append(conversation_of(7).events)
    assert await checkpoint(database_url) == Checkpoint(origin, 7, mth(digests(database_url)))
    await sealed(here, 33, 20)
    await here.append(conversation_of(2).events)
    assert await checkpoint(database_url) == Checkpoint(origin, 42, mth(digests(database_url)))
    assert value(database_url, "SELECT max(size) FROM tree_heads") == 40


async def test_every_event_is_proven(here: Store, database_url: str) -> None:
    await here.append(one_of_each())
    size = len(one_of_each())
    for position in range(1, size + 1):
        found = await proof(database_url, position)
        head = opened_note(found.note)
        digest = event_of(found).digest()
        assert (found.leaf_index, head.size, digest) == (position - 1, size, digests(database_url)[position - 1])
        assert verify_inclusion(found.leaf_index, head.size, leaf_hash(digest), found.hashes, head.root)
        assert b64decode(found.text().splitlines()[1].removeprefix("extra ")) == found.extra


async def test_a_proof_holds_the_event_as_it_is_stored(here: Store, database_url: str) -> None:
    story = conversation_of(3)
    await here.append(story.events)
    shown = json.loads((await proof(database_url, 2)).extra)
    assert (shown["position"], shown["aggregate_id"], shown["version"]) == (2, str(story.id), 2)
    assert shown["content"] == value(database_url, "SELECT data::text FROM events WHERE position = 2")
    tamper(database_url, f"{ERASE} WHERE position = 2")
    erased = await proof(database_url, 2)
    assert {"salt", "content"} & json.loads(erased.extra).keys() == set()
    head = opened_note(erased.note)
    assert verify_inclusion(1, 3, leaf_hash(event_of(erased).digest()), erased.hashes, head.root)


@pytest.mark.parametrize("position", [4, 2**62])
async def test_a_position_outside_the_log_has_no_proof(here: Store, database_url: str, position: int) -> None:
    await here.append(conversation_of(3).events)
    with pytest.raises(NoSuchEventError, match=f"no event at position {position}. It ends at position 3"):
        await proof(database_url, position)


async def test_a_changed_event_is_not_proven(here: Store, database_url: str) -> None:
    await sealed(here, 10, 10)
    tamper(database_url, "UPDATE events SET actor = 'user:eve' WHERE position = 2")
    with pytest.raises(LogDamagedError, match="The event at position 2 does not match its digest"):
        await proof(database_url, 2)
    tamper(database_url, f"UPDATE events SET digest = {DIGEST} WHERE position = 2")
    with pytest.raises(LogDamagedError, match="not as it was sealed"):
        await proof(database_url, 2)


async def test_a_log_with_a_gap_gets_no_checkpoint(here: Store, database_url: str) -> None:
    await here.append(conversation_of(3).events)
    tamper(database_url, "DELETE FROM events WHERE position = 2")
    with pytest.raises(LogDamagedError, match="not whole"):
        await checkpoint(database_url)
