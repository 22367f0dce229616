"""Deletion of many conversations: complete, once each, and shared with others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from commands.clearing import CHUNK, Clearing
from commands.commands import Caller
from eventlog.errors import StoreUnavailableError
from eventlog.mapper import SNAPSHOT_INTERVAL
from tests.support.histories.builders import Story, some_id
from tests.support.store import ALICE, HELLO, Store, rows, started, until, value


async def settled(position: int) -> None:
    """Wait for nothing, as these tests run no projections."""


async def pages(*ids: Sequence[UUID]) -> AsyncIterator[Sequence[UUID]]:
    for page in ids:
        yield page


def clearing(store: Store) -> Clearing:
    return Clearing(store.commands, settled)


def deletions(conninfo: str) -> list[UUID]:
    return [row[0] for row in rows(conninfo, "SELECT aggregate_id FROM events WHERE type = 'ConversationDeleted'")]


async def test_all_pages_are_deleted_and_counted(here: Store, there: Store, database_url: str) -> None:
    ids = [await started(there, messages=[HELLO]) for _ in range(CHUNK + 3)]
    cleared = await clearing(here).clear(ALICE, pages(ids[:2], ids[2:]))
    assert cleared == (len(ids), value(database_url, "SELECT max(position) FROM events"))
    assert sorted(deletions(database_url)) == sorted(ids)


async def test_only_what_this_call_deletes_counts(here: Store, there: Store, database_url: str) -> None:
    kept, gone, mine = [await started(there) for _ in range(3)]
    await there.commands.delete(ALICE, gone)
    assert await clearing(here).clear(ALICE, pages([gone, some_id()])) == (0, None)
    assert (await clearing(here).clear(Caller("bob", "user:bob"), pages([kept]))).deleted == 0
    assert (await clearing(here).clear(ALICE, pages([gone, mine]))).deleted == 1
    assert sorted(deletions(database_url)) == sorted([gone, mine])


async def test_running_and_queued_turns_are_cancelled(here: Store, there: Store, database_url: str) -> None:
    story = Story()
    story.ask()
    story.stream("Be", "cause")
    story.queue()
    await there.append(story.events)
    assert (await clearing(here).clear(ALICE, pages([story.id]))).deleted == 1
    types = [row[0] for row in rows(database_url, "SELECT type FROM events ORDER BY position")]
    assert types[-3:] == ["TurnCancelled", "TurnCancelled", "ConversationDeleted"]


async def test_a_long_conversation_is_deleted_too(here: Store, there: Store, database_url: str) -> None:
    long, short = [await started(there) for _ in range(2)]
    for _ in range(SNAPSHOT_INTERVAL + 1):
        await there.commands.add_message(ALICE, long, HELLO)
    await there.conversations.close()
    assert value(database_url, "SELECT count(*) FROM snapshots") == 1
    assert (await clearing(here).clear(ALICE, pages([long, short]))).deleted == 2


async def test_calls_of_two_processes_delete_each_conversation_once(
    here: Store, there: Store, database_url: str
) -> None:
    ids = [await started(here) for _ in range(3 * CHUNK)]
    calls = [clearing(here), clearing(there)]
    found = await asyncio.gather(*(call.clear(ALICE, pages(ids)) for call in [calls[0], *calls]))
    assert sum(each.deleted for each in found) == len(ids)
    assert sorted(deletions(database_url)) == sorted(ids)


async def test_a_conversation_that_goes_on_meanwhile_is_deleted(here: Store, there: Store, database_url: str) -> None:
    ids = [await started(here) for _ in range(CHUNK)]
    for id_ in ids[::2]:
        await there.commands.add_message(ALICE, id_, HELLO)  # the states that `here` caches are outdated now
    assert (await clearing(here).clear(ALICE, pages(ids))).deleted == len(ids)
    assert sorted(deletions(database_url)) == sorted(ids)


async def test_a_closed_clearing_stops_and_a_later_one_deletes_the_rest(here: Store, database_url: str) -> None:
    ids = [await started(here) for _ in range(3 * CHUNK)]

    async def close_after_the_first(position: int) -> None:
        stopping.close()

    stopping = Clearing(here.commands, close_after_the_first)
    with pytest.raises(StoreUnavailableError, match="being stopped"):
        await stopping.clear(ALICE, pages(ids))
    assert len(deletions(database_url)) == CHUNK
    assert (await clearing(here).clear(ALICE, pages(ids))).deleted == len(ids) - CHUNK
    assert sorted(deletions(database_url)) == sorted(ids)


async def test_a_cancelled_call_leaves_no_work_behind(here: Store, database_url: str) -> None:
    ids = [await started(here) for _ in range(3 * CHUNK)]
    call = asyncio.create_task(clearing(here).clear(ALICE, pages(ids)))
    await until(lambda: deletions(database_url))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert call.cancelled()
    done = len(deletions(database_url))
    assert (await clearing(here).clear(ALICE, pages(ids))).deleted == len(ids) - done
    assert sorted(deletions(database_url)) == sorted(ids)


async def test_two_owners_take_turns(here: Store, database_url: str) -> None:
    bob, shared = Caller("bob", "user:bob"), clearing(here)
    ids = {ALICE: [await started(here) for _ in range(4 * CHUNK)]}
    ids[bob] = [(await here.commands.start(bob)).state.id for _ in range(CHUNK)]
    await asyncio.gather(*(shared.clear(caller, pages(owned)) for caller, owned in ids.items()))
    of_bob = [place for place, id_ in enumerate(deletions(database_url)) if id_ in ids[bob]]
    assert max(of_bob) < 3 * CHUNK
