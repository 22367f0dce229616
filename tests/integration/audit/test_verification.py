"""A changed log is noticed however it was changed, with the first bad position."""

import asyncio
import subprocess
from typing import LiteralString

import psycopg
import pytest

from audit.errors import LogDamagedError, OtherLogError
from audit.proofs.checkpoints import Checkpoint
from audit.proofs.merkle_tree import EMPTY_ROOT, MerkleTree
from audit.seals.sealed_tree import read_current_tree
from audit.seals.verification import Verified, verify_log
from eventlog.db.database import Database
from postgres.programs import find_programs
from tests.support.audits import DIGEST, ERASE, conversation_of, sealed, tamper
from tests.support.histories.builders import one_of_each
from tests.support.naive_merkle import mth
from tests.support.store import Store, opened, rows

EVENTS, HEAD_EVENTS, SECTION = 60, 20, 16
RECOMPUTE: LiteralString = f"UPDATE events SET digest = {DIGEST}"
COPY: LiteralString = (
    "INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, recorded_at, digest, salt)"
    " SELECT {position}, aggregate, gen_random_uuid(), 1, type, data, actor, recorded_at, digest, salt FROM events"
    " WHERE position = 23"
)


@pytest.fixture
async def log_url(database_url: str) -> str:
    """A log of 60 events with a sealed head after each 20."""
    async with opened(database_url, listening=False) as store:
        await sealed(store, EVENTS, HEAD_EVENTS)
    return database_url


async def verified(conninfo: str, checkpoint: Checkpoint | None = None, workers: int = 2) -> Verified:
    return await verify_log(Database(conninfo), workers, checkpoint, section_events=SECTION)


async def checkpoint_of(conninfo: str) -> Checkpoint:
    async with await Database(conninfo).connect() as connection:
        origin, tree = await read_current_tree(connection)
    return Checkpoint(origin, tree.size, tree.root())


async def check_found(conninfo: str, position: int, reason: str, checkpoint: Checkpoint | None = None) -> None:
    finding = (await verified(conninfo, checkpoint)).finding
    assert finding is not None
    assert finding.position == position
    assert reason in finding.reason


@pytest.mark.parametrize("workers", [1, 2, 5])
async def test_an_unchanged_log_is_verified(log_url: str, workers: int) -> None:
    found = await verified(log_url, await checkpoint_of(log_url), workers)
    digests = [row[0] for row in rows(log_url, "SELECT digest FROM events ORDER BY position")]
    assert found == (found.origin, EVENTS, 0, 3, mth(digests), None)


async def test_an_empty_log_is_verified(database_url: str) -> None:
    found = await verified(database_url)
    assert found == (found.origin, 0, 0, 0, EMPTY_ROOT, None)
    assert await verified(database_url, Checkpoint(found.origin, 0, EMPTY_ROOT)) == found


async def test_a_restored_dump_has_the_same_digests(log_url: str, empty_database_url: str) -> None:
    dump_and_restore(log_url, empty_database_url)
    checkpoint = await checkpoint_of(log_url)
    assert await verified(empty_database_url, checkpoint) == await verified(log_url, checkpoint)


def dump_and_restore(conninfo: str, into: str) -> None:
    dump = [find_programs() / "pg_dump", "--schema", "turnlog", "--format", "custom", "--dbname", conninfo]
    restore = [find_programs() / "pg_restore", "--exit-on-error", "--dbname", into]
    dumped = subprocess.run(dump, capture_output=True, check=True)
    subprocess.run(restore, input=dumped.stdout, capture_output=True, check=True)


async def test_every_type_of_event_is_verified(here: Store, database_url: str) -> None:
    await here.append(one_of_each())
    assert (await verified(database_url)).finding is None


async def test_a_log_that_grew_is_verified_against_its_checkpoint(here: Store, database_url: str) -> None:
    await sealed(here, 30, 10)
    checkpoint = await checkpoint_of(database_url)
    await here.append(conversation_of(25).events)
    found = await verified(database_url, checkpoint)
    assert (found.events, found.heads, found.finding) == (55, 3, None)


@pytest.mark.parametrize(
    "change",
    [
        "data = jsonb_set(data, '{role}', '\"system\"')",
        "data = data || '{\"forged\": null}'",
        "actor = 'user:eve'",
        "request_id = NULL",
        "request_id = 'req-2'",
        "recorded_at = recorded_at + interval '1 microsecond'",
        "type = 'MessageDeleted'",
        "version = 1000",
        "aggregate = 'agent'",
        "aggregate_id = gen_random_uuid()",
        "salt = sha256(salt)",
        "salt = NULL",
        "digest = sha256(digest)",
        "digest = ''",
        "content_hash = sha256(salt || convert_to(data::text, 'UTF8'))",
        "content_hash = sha256(salt || convert_to(data::text, 'UTF8')), data = '{}'",
        "content_hash = sha256(salt || convert_to(data::text, 'UTF8')), salt = NULL, data = '{\"forged\": 1}'",
        "content_hash = sha256(''), salt = NULL, data = '{}'",
    ],
)
async def test_a_changed_event_is_named(log_url: str, change: LiteralString) -> None:
    tamper(log_url, f"UPDATE events SET {change} WHERE position = 23")
    await check_found(log_url, 23, "the event does not match its digest")
    assert (await verified(log_url)).events == 22


async def test_the_first_of_several_changed_events_is_named(log_url: str) -> None:
    tamper(log_url, "UPDATE events SET actor = 'user:eve' WHERE position IN (17, 31, 59)")
    await check_found(log_url, 17, "the event does not match its digest")


async def test_a_deleted_event_is_named(log_url: str) -> None:
    tamper(log_url, "DELETE FROM events WHERE position IN (23, 24)")
    await check_found(log_url, 23, "the event is missing")


@pytest.mark.parametrize("position", [1, 16, 17, 60])
async def test_an_event_at_the_edge_of_a_section_is_named(log_url: str, position: int) -> None:
    with psycopg.connect(log_url, options="-c search_path=turnlog", autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM events WHERE position = %s", [position])
    await check_found(log_url, position, "the event is missing")


async def test_an_event_inserted_in_between_is_noticed(log_url: str) -> None:
    tamper(
        log_url,
        "UPDATE events SET position = -position WHERE position >= 23",
        "UPDATE events SET position = 1 - position WHERE position < 0",
        COPY.format(position="23").replace("WHERE position = 23", "WHERE position = 24"),
        f"{RECOMPUTE} WHERE position = 23",
        "UPDATE head SET position = 61",
    )
    await check_found(log_url, 24, "the event does not match its digest")
    # With new digests, the tree has another leaf in this place.
    tamper(log_url, f"{RECOMPUTE} WHERE position > 23")
    await check_found(log_url, 21, "not the one that the sealed head of 40 events covers")


@pytest.mark.parametrize(("position", "reason"), [(61, "the log ends at position 60"), (0, "begins at position 1")])
async def test_an_event_outside_the_log_is_named(log_url: str, position: int, reason: str) -> None:
    tamper(log_url, COPY.format(position="61" if position == 61 else "0"))
    await check_found(log_url, position, reason)


async def test_two_events_at_one_position_are_named(log_url: str) -> None:
    tamper(log_url, "DROP INDEX events_position", COPY.format(position="23"))
    await check_found(log_url, 23, "")
    tamper(log_url, f"{RECOMPUTE} WHERE position = 23")
    await check_found(log_url, 23, "several events have it")


async def test_an_event_moved_to_the_position_of_another_is_named(log_url: str) -> None:
    tamper(
        log_url,
        "DROP INDEX events_position",
        "UPDATE events SET position = 23 WHERE position = 24",
        f"{RECOMPUTE} WHERE position = 23",
    )
    await check_found(log_url, 23, "several events have it")


async def test_functions_of_the_schema_do_not_lend_digests(log_url: str) -> None:
    # Their argument types fit better than those of PostgreSQL's own function, unless these are named.
    body = "SELECT pg_catalog.convert_to(replace(given, 'forged', 'Message 21'), 'UTF8'::name)"
    tamper(
        log_url,
        f"CREATE FUNCTION convert_to(given text, encoding text) RETURNS bytea LANGUAGE sql AS $${body}$$",
        "UPDATE events SET data = replace(data::text, 'Message 21', 'forged')::jsonb WHERE position = 23",
    )
    await check_found(log_url, 23, "the event does not match its digest")


async def test_swapped_events_are_named(log_url: str) -> None:
    tamper(
        log_url,
        "UPDATE events SET position = -1 WHERE position = 23",
        "UPDATE events SET position = 23 WHERE position = 30",
        "UPDATE events SET position = 30 WHERE position = -1",
    )
    await check_found(log_url, 23, "the event does not match its digest")
    tamper(log_url, f"{RECOMPUTE} WHERE position IN (23, 30)")
    await check_found(log_url, 21, "this event, or a later one up to 40, is not the one")


async def test_a_truncated_log_is_noticed(log_url: str) -> None:
    tamper(log_url, "DELETE FROM events WHERE position > 50", "UPDATE head SET position = 50")
    await check_found(log_url, 51, "the event is missing. The sealed head covers 60 events")


@pytest.mark.parametrize(
    ("head", "position", "reason"),
    [(50, 51, "the log ends at position 50"), (62, 61, "the event is missing"), (0, 1, "the log ends at position 0")],
)
async def test_a_changed_end_of_the_log_is_noticed(log_url: str, head: int, position: int, reason: str) -> None:
    rows(log_url, "UPDATE head SET position = %s", [head])
    await check_found(log_url, position, reason)


async def test_an_emptied_log_is_noticed(log_url: str) -> None:
    tamper(log_url, "TRUNCATE events")
    await check_found(log_url, 1, "the event is missing")
    tamper(log_url, "UPDATE head SET position = 0")
    await check_found(log_url, 1, "The sealed head covers 20 events")


async def test_renumbered_events_are_noticed(log_url: str) -> None:
    tamper(
        log_url,
        "DELETE FROM events WHERE position = 23",
        "UPDATE events SET position = -position WHERE position > 23",
        "UPDATE events SET position = -1 - position WHERE position < 0",
        "UPDATE head SET position = 59",
    )
    await check_found(log_url, 23, "the event does not match its digest")
    tamper(log_url, RECOMPUTE)
    await check_found(log_url, 21, "not the one that the sealed head of 40 events covers")


async def test_a_changed_event_with_a_new_digest_is_noticed(log_url: str) -> None:
    tamper(log_url, "UPDATE events SET actor = 'user:eve' WHERE position = 23", f"{RECOMPUTE} WHERE position = 23")
    await check_found(log_url, 21, "this event, or a later one up to 40, is not the one that the sealed head of 40")


async def test_only_the_checkpoint_tells_of_a_log_that_was_rewritten_as_a_whole(log_url: str) -> None:
    checkpoint = await checkpoint_of(log_url)
    tamper(log_url, "UPDATE events SET actor = 'user:eve' WHERE position = 23")
    seal_again(log_url)
    assert (await verified(log_url)).finding is None
    await check_found(log_url, 1, "not the one that the checkpoint of 60 events covers", checkpoint)


async def test_only_the_checkpoint_tells_of_a_log_that_was_cut_as_a_whole(log_url: str) -> None:
    checkpoint = await checkpoint_of(log_url)
    tamper(log_url, "DELETE FROM events WHERE position > 50", "UPDATE head SET position = 50")
    seal_again(log_url)
    assert (await verified(log_url)).finding is None
    await check_found(log_url, 51, "the event is missing. The checkpoint covers 60 events", checkpoint)


def seal_again(conninfo: str) -> None:
    """Recompute all that the database holds, as an attacker with all rights would."""
    tamper(conninfo, RECOMPUTE, "DELETE FROM tree_heads")
    tree = MerkleTree()
    with psycopg.connect(conninfo, options="-c search_path=turnlog", autocommit=True) as connection:
        for position, digest in connection.execute("SELECT position, digest FROM events ORDER BY position").fetchall():
            tree.append(digest)
            if position % HEAD_EVENTS == 0:
                connection.execute("INSERT INTO tree_heads VALUES (%s, %s)", [tree.size, tree.root()])
                connection.execute("UPDATE sealed_tree SET size = %s, subtrees = %s", [tree.size, tree.state])


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM tree_heads WHERE size = 60",
        "UPDATE sealed_tree SET subtrees = sha256('') || sha256('1') || sha256('2') || sha256('3')",
        "UPDATE sealed_tree SET subtrees = ''",
        "UPDATE sealed_tree SET size = 59",
        "DELETE FROM sealed_tree",
    ],
)
async def test_a_tampered_tree_is_an_error(log_url: str, change: LiteralString) -> None:
    tamper(log_url, change)
    with pytest.raises(LogDamagedError, match="sealed tree"):
        await verified(log_url)


async def test_a_changed_head_is_noticed(log_url: str) -> None:
    tamper(log_url, "UPDATE tree_heads SET root = sha256(root) WHERE size = 40")
    await check_found(log_url, 21, "not the one that the sealed head of 40 events covers")


async def test_a_head_beyond_the_log_is_noticed(log_url: str) -> None:
    tamper(log_url, "INSERT INTO tree_heads VALUES (70, sha256(''))")
    await check_found(log_url, 61, "the event is missing. The sealed head covers 70 events")


async def test_a_log_without_its_head_is_an_error(log_url: str) -> None:
    tamper(log_url, "DELETE FROM head")
    with pytest.raises(LogDamagedError, match="head of the log is missing"):
        await verified(log_url)


async def test_erased_events_are_counted_and_keep_the_log_valid(log_url: str) -> None:
    checkpoint = await checkpoint_of(log_url)
    tamper(log_url, f"{ERASE} WHERE position IN (5, 23, 60)")
    found = await verified(log_url, checkpoint)
    assert (found.events, found.erased, found.heads, found.finding) == (EVENTS, 3, 3, None)
    assert (await checkpoint_of(log_url)) == checkpoint


async def test_the_envelope_of_an_erased_event_is_still_protected(log_url: str) -> None:
    tamper(log_url, f"{ERASE} WHERE position = 23", "UPDATE events SET actor = 'user:eve' WHERE position = 23")
    await check_found(log_url, 23, "the event does not match its digest")


async def test_a_checkpoint_of_another_log_is_an_error(log_url: str) -> None:
    checkpoint = await checkpoint_of(log_url)
    with pytest.raises(OtherLogError, match="This is a checkpoint of turnlog/another"):
        await verified(log_url, checkpoint._replace(origin="turnlog/another"))


async def test_progress_is_reported(log_url: str) -> None:
    reported: list[tuple[int, int]] = []

    def report(verified: int, events: int) -> None:
        reported.append((verified, events))

    await verify_log(Database(log_url), 2, report=report, section_events=SECTION)
    assert reported == [(0, 60), (16, 60), (32, 60), (48, 60), (60, 60)]


async def test_events_that_are_recorded_meanwhile_do_not_disturb(here: Store, database_url: str) -> None:
    await sealed(here, 30, 10)
    appends = [here.append(conversation_of(5).events) for _ in range(5)]
    found, *_ = await asyncio.gather(verified(database_url), *appends)
    assert isinstance(found, Verified)
    assert found.finding is None
    assert found.events in range(30, 56, 5)
