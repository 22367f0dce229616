"""The log is sealed as it grows, by one process at a time."""

import asyncio

import psycopg
import pytest

from api.services import open_services
from api.settings import load_settings
from audit.errors import LogDamagedError
from audit.proofs.merkle_tree import MerkleTree
from audit.seals.sealed_tree import add_head, read_digests, read_tree
from audit.seals.sealer import HEAD_EVENTS, Sealer, sealing_lock
from projections.advisory_locks import try_lock
from tests.support.audits import conversation_of, sealed, tamper
from tests.support.histories.builders import some_id
from tests.support.naive_merkle import mth
from tests.support.store import Store, opened, rows, until, value
from tests.support.waiting import NEVER_S
from turns.model.gateway import ModelGateway


def heads(conninfo: str) -> list[tuple[int, bytes]]:
    return rows(conninfo, "SELECT size, root FROM tree_heads ORDER BY size")


def check_heads(conninfo: str, sizes: list[int]) -> None:
    digests = [row[0] for row in rows(conninfo, "SELECT digest FROM events ORDER BY position")]
    assert heads(conninfo) == [(size, mth(digests[:size])) for size in sizes]


async def test_a_head_is_stored_for_each_number_of_events(here: Store, database_url: str) -> None:
    sealer = Sealer(here.database, here.feed, 10, NEVER_S)
    assert await sealer.seal() == 0
    await here.append(conversation_of(9).events)
    assert await sealer.seal() == 0
    await here.append(conversation_of(24).events)
    assert await sealer.seal() == 30
    check_heads(database_url, [10, 20, 30])
    await here.append(conversation_of(7).events)
    assert await Sealer(here.database, here.feed, 10, NEVER_S).seal() == 40
    check_heads(database_url, [10, 20, 30, 40])


async def test_a_head_is_stored_for_few_events_after_a_time(here: Store, database_url: str) -> None:
    await here.append(conversation_of(3).events)
    sealer = Sealer(here.database, here.feed, 10, 0.0)
    assert await sealer.seal() == await sealer.seal() == 3
    check_heads(database_url, [3])


async def test_a_server_seals_while_the_log_grows(here: Store, database_url: str) -> None:
    sealer = Sealer(here.database, here.feed, 10, NEVER_S, poll_s=0.005)
    await sealer.open()
    try:
        for size in (10, 20, 30):
            await here.append(conversation_of(10).events)
            await until(lambda size=size: heads(database_url)[-1:] and heads(database_url)[-1][0] == size)
    finally:
        await sealer.close()
    check_heads(database_url, [10, 20, 30])


async def test_every_server_has_a_sealer(prepared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def load_nothing(_: ModelGateway) -> None:
        pass

    monkeypatch.setattr(ModelGateway, "warm_up", load_nothing)
    story = conversation_of(2)
    started, message = story.events
    places = [{"originator_version": version, "message_id": some_id()} for version in range(2, HEAD_EVENTS + 1)]
    async with open_services(load_settings(), prepared_url), opened(prepared_url) as store:
        await store.append([started, *(message.model_copy(update=place) for place in places)])
        await until(lambda: heads(prepared_url))
    check_heads(prepared_url, [HEAD_EVENTS])


async def test_processes_that_seal_at_once_store_each_head_once(here: Store, there: Store, database_url: str) -> None:
    await here.append(conversation_of(1000).events)
    sealers = [Sealer(store.database, store.feed, 100, NEVER_S) for store in (here, there) for _ in range(3)]
    assert 1000 in await asyncio.gather(*(sealer.seal() for sealer in sealers))
    check_heads(database_url, list(range(100, 1001, 100)))


async def test_a_process_leaves_the_sealing_to_the_one_that_does_it(here: Store, database_url: str) -> None:
    await here.append(conversation_of(10).events)
    sealer = Sealer(here.database, here.feed, 10, NEVER_S)
    async with await here.database.connect() as other:
        assert await try_lock(other, sealing_lock("turnlog"))
        assert await sealer.seal() == 0
    check_heads(database_url, [])
    # PostgreSQL releases the lock only a moment after the connection was closed.
    async with asyncio.timeout(60):
        while await sealer.seal() != 10:
            pass


async def test_a_tree_that_another_process_has_extended_is_not_replaced(here: Store, database_url: str) -> None:
    await sealed(here, 20, 10)
    async with await here.database.connect() as connection:
        tree = MerkleTree()
        tree.extend(await read_digests(connection, 0, 15))
        assert not await add_head(connection, 10, tree)
        assert (await read_tree(connection)).tree.size == 20
    check_heads(database_url, [10, 20])


async def test_a_log_that_is_not_whole_is_not_sealed(here: Store, database_url: str) -> None:
    await here.append(conversation_of(10).events)
    tamper(database_url, "DELETE FROM events WHERE position = 3")
    with pytest.raises(LogDamagedError, match="after position 0 up to 10 are not whole"):
        await Sealer(here.database, here.feed, 10, NEVER_S).seal()
    assert heads(database_url) == []


async def test_a_tree_that_was_tampered_with_does_not_grow(here: Store, database_url: str) -> None:
    await sealed(here, 10, 10)
    await here.append(conversation_of(10).events)
    tamper(database_url, "UPDATE sealed_tree SET subtrees = sha256(subtrees) || sha256('')")
    with pytest.raises(LogDamagedError, match="of 10 events is not that of their sealed head"):
        await Sealer(here.database, here.feed, 10, NEVER_S).seal()
    check_heads(database_url, [10])


async def test_a_log_that_lost_sealed_events_is_not_sealed(here: Store, database_url: str) -> None:
    await sealed(here, 10, 10)
    tamper(database_url, "DELETE FROM events WHERE position > 5", "UPDATE head SET position = 5")
    with pytest.raises(LogDamagedError, match="ends at position 5, but 10 events are sealed"):
        await Sealer(here.database, here.feed, 10, NEVER_S).seal()


async def test_a_server_seals_a_log_that_was_restored_under_it(database_url: str) -> None:
    # Without notifications, none of before the restore comes after it.
    async with opened(database_url, listening=False) as store:
        await sealed(store, 10, 10)
        (backup,) = rows(database_url, "SELECT size, subtrees FROM sealed_tree")
        sealer = Sealer(store.database, store.feed, 10, NEVER_S, poll_s=0.005)
        await store.append(conversation_of(30).events)
        assert await sealer.seal() == 40
        tamper(
            database_url,
            "DELETE FROM events WHERE position > 10",
            "DELETE FROM tree_heads WHERE size > 10",
            "UPDATE head SET position = 10",
        )
        rows(database_url, "UPDATE sealed_tree SET size = %s, subtrees = %s", backup)
        await store.feed.refresh()
        await sealer.open()
        try:
            await store.append(conversation_of(10).events)
            await until(lambda: heads(database_url)[-1][0] == 20)
        finally:
            await sealer.close()
    check_heads(database_url, [10, 20])


@pytest.mark.parametrize("change", ["UPDATE tree_heads SET root = ''", "DELETE FROM tree_heads", "TRUNCATE tree_heads"])
async def test_heads_cannot_be_changed_even_by_a_superuser(database_url: str, change: str) -> None:
    async with opened(database_url, listening=False) as store:
        await sealed(store, 10, 10)
    before = heads(database_url)
    with (
        psycopg.connect(database_url, options="-c search_path=turnlog") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(change.encode())
    assert heads(database_url) == before


def test_every_log_has_a_name_of_its_own(database_url: str) -> None:
    assert value(database_url, "SELECT count(*) FROM sealed_tree WHERE log_id IS NOT NULL AND size = 0") == 1
