"""Leases end every abandoned turn, also when its start or another turn fails."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from domain.decisions.turn_starts import TurnSettings
from domain.errors import LimitReachedError
from eventlog.errors import UnknownEventError
from tests.support.histories.builders import MODEL, some_id
from tests.support.store import (
    ALICE,
    HELLO,
    Store,
    blocked_backend,
    blocked_head,
    nothing,
    opened,
    rows,
    started,
    until,
)
from turns.turns import Turns
from turns.upkeep import expired_leases as expired_module
from turns.upkeep import leases as leases_module
from turns.upkeep.expired_leases import EXPIRED_FOR_S, LOOK_INTERVAL_S, ExpiredLeases
from turns.upkeep.leases import LEASE_S, Leases


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, listening=False) as store:
        yield store


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew and check leases all the time, and end a turn that is seen twice."""
    monkeypatch.setattr(leases_module, "RENEW_INTERVAL_S", 0.02)
    monkeypatch.setattr(expired_module, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(expired_module, "EXPIRED_FOR_S", 0.005)


def test_a_turn_of_a_dead_process_ends_within_the_documented_15_s() -> None:
    # A lease that was just renewed, a check just before its expiry, and one just before the end of the wait.
    assert LEASE_S + EXPIRED_FOR_S + 2 * LOOK_INTERVAL_S < 15


async def test_a_turn_whose_start_is_cut_off_keeps_its_lease(here: Store, database_url: str) -> None:
    leases, unused = Leases(here.database), cast(Any, None)
    turns = Turns(here.commands, unused, unused, unused, unused, leases)
    id_ = await started(here)
    with blocked_head(database_url):
        starting = asyncio.create_task(turns.start(ALICE, id_, HELLO, TurnSettings(MODEL)))
        await blocked_backend(database_url)
        starting.cancel()
        await asyncio.wait([starting])
    await until(lambda: rows(database_url, "SELECT 1 FROM events WHERE type = 'TurnStarted'"))
    await leases.close()
    assert rows(database_url, "SELECT conversation_id FROM leases") == [(id_,)]


@pytest.mark.usefixtures("_quick")
async def test_a_turn_that_cannot_be_ended_does_not_block_others(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, other = some_id(), some_id()

    async def recover(conversation_id: UUID, turn_id: UUID) -> None:
        if turn_id == poisoned:
            raise RuntimeError("its events cannot be read")

    monkeypatch.setattr(leases_module, "LEASE_S", -1.0)
    dead = Leases(here.database)
    await dead.acquire(some_id(), poisoned)
    await dead.acquire(some_id(), other)
    leases = Leases(here.database)
    await leases.open(recover)
    try:
        await until(lambda: rows(database_url, "SELECT turn_id FROM leases") == [(poisoned,)])
    finally:
        await leases.close()


@pytest.mark.usefixtures("_quick")
async def test_turns_that_cannot_be_read_are_retried_rarely_and_block_no_other(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use as many unreadable turns as are found in one look."""
    unreadable, other, tried = [some_id() for _ in range(100)], some_id(), list[UUID]()

    async def recover(conversation_id: UUID, turn_id: UUID) -> None:
        tried.append(turn_id)
        if turn_id != other:
            raise UnknownEventError("MessagePinned version 1 is unknown")

    monkeypatch.setattr(leases_module, "LEASE_S", -1.0)
    dead = Leases(here.database)
    for turn_id in [*unreadable, other]:
        await dead.acquire(some_id(), turn_id)
    leases = Leases(here.database)
    await leases.open(recover)
    try:
        await until(lambda: not rows(database_url, "SELECT 1 FROM leases WHERE turn_id = %s", [other]))
    finally:
        await leases.close()
    assert sorted(tried) == sorted([*unreadable, other])
    assert len(rows(database_url, "SELECT 1 FROM leases")) == len(unreadable)


@pytest.mark.usefixtures("_quick")
async def test_a_dropped_lease_is_left_to_the_process_that_runs_the_turn(here: Store, database_url: str) -> None:
    """Two processes resume one turn.

    The log accepts the first, and the second has taken its lease meanwhile.
    """
    turn_id, conversation_id = some_id(), some_id()
    first, second = Leases(here.database), Leases(here.database)
    await first.acquire(conversation_id, turn_id)
    await second.acquire(conversation_id, turn_id)
    second.drop(turn_id)
    await second.close()
    assert rows(database_url, "SELECT turn_id FROM leases") == []
    await first.open(nothing)
    try:
        await until(lambda: rows(database_url, "SELECT turn_id FROM leases") == [(turn_id,)])
        first.drop(turn_id)
        await until(lambda: rows(database_url, "SELECT turn_id FROM leases") == [])
    finally:
        await first.close()


async def test_a_lease_is_taken_over_once_and_only_after_it_expired(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_id, conversation_id = some_id(), some_id()
    leases = [Leases(here.database) for _ in range(3)]
    await leases[0].acquire(conversation_id, turn_id)
    assert not await leases[1].take_over(turn_id)
    await leases[0].release(turn_id)
    assert [await each.take_over(turn_id) for each in leases[1:]] == [True, False]


class NotingDatabase:
    """A database that notes for which owner each statement is."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self.owners: list[str] = []

    async def fetch(self, statement: Any, parameters: dict[str, Any]) -> Any:
        self.owners.append(parameters["owner_id"])
        return await self._database.fetch(statement, parameters)

    async def fetch_one(self, statement: Any, parameters: dict[str, Any]) -> Any:
        self.owners.append(parameters["owner_id"])
        return await self._database.fetch_one(statement, parameters)


async def test_an_owner_that_floods_its_limit_does_not_go_in_front_of_others(here: Store) -> None:
    database = NotingDatabase(here)
    leases = Leases(cast(Any, database), running_limit=1)
    await leases.acquire(some_id(), some_id(), "alice")
    database.owners.clear()
    flood = [asyncio.create_task(leases.acquire(some_id(), some_id(), "alice")) for _ in range(50)]
    await asyncio.sleep(0)
    await leases.acquire(some_id(), some_id(), "bob")
    # Each refused start takes three statements. Bob waits for the one that has begun, and not for all.
    assert database.owners.index("bob") <= 3
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(result) for result in results} == {LimitReachedError}


class Recovered:
    """Records the turns that it is asked to recover."""

    def __init__(self) -> None:
        self.turns: list[UUID] = []

    async def recover(self, conversation_id: UUID, turn_id: UUID) -> None:
        self.turns.append(turn_id)


class Elapsed:
    """The monotonic clock of the leases, which only a test moves."""

    seconds = 1000.0


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> Elapsed:
    clock = Elapsed()
    monkeypatch.setattr(expired_module, "monotonic", lambda: clock.seconds)
    return clock


RENEWED: LiteralString = "SELECT turn_id FROM leases WHERE expires_at > now()"


async def test_a_clock_step_ends_no_turn_whose_lease_is_renewed(
    here: Store, database_url: str, elapsed: Elapsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "RENEW_INTERVAL_S", 0.02)
    working, dead = some_id(), some_id()
    recovered = Recovered()
    holder, expired = Leases(here.database), ExpiredLeases(here.database, recovered.recover, Leases(here.database))
    await holder.acquire(some_id(), working)
    await Leases(here.database).acquire(some_id(), dead)
    rows(database_url, "UPDATE leases SET expires_at = expires_at - interval '1 hour'")
    await expired.check()
    await holder.open(recovered.recover)  # the holder checks all leases too, and either of the two may be first
    try:
        await until(lambda: rows(database_url, RENEWED) == [(working,)])
        elapsed.seconds += EXPIRED_FOR_S
        await expired.check()
        await until(lambda: recovered.turns)
        assert set(recovered.turns) == {dead}
    finally:
        await holder.close()


async def test_of_two_processes_that_find_the_lease_of_a_dead_one_only_one_recovers_its_turn(
    here: Store, elapsed: Elapsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may have started a queued turn.

    The second would end it.
    """
    turn_id, recovered = some_id(), Recovered()
    second = ExpiredLeases(here.database, recovered.recover, Leases(here.database))

    async def recover_while_another_looks(conversation_id: UUID, turn_id: UUID) -> None:
        await recovered.recover(conversation_id, turn_id)
        await second.check()

    first = ExpiredLeases(here.database, recover_while_another_looks, Leases(here.database))
    with monkeypatch.context() as patch:
        patch.setattr(leases_module, "LEASE_S", -3600.0)
        await Leases(here.database).acquire(some_id(), turn_id)
    await first.check()
    await second.check()
    elapsed.seconds += EXPIRED_FOR_S
    await first.check()
    assert recovered.turns == [turn_id]


async def test_a_claimed_lease_of_a_queued_turn_is_taken_over_whatever_the_clock_says(
    here: Store, database_url: str
) -> None:
    turn_id, leases = some_id(), Leases(here.database)
    await Leases(here.database).acquire(some_id(), turn_id)
    assert not await leases.claim(turn_id)
    rows(database_url, "UPDATE leases SET expires_at = now() + interval '1 hour'")  # then the clock was set back
    assert await leases.claim(turn_id)
    assert await leases.take_over(turn_id)
    leases.settle(turn_id)
    await leases.close()
    assert rows(database_url, "SELECT turn_id FROM leases WHERE expires_at < now() + interval '1 minute'") == [
        (turn_id,)
    ]


async def test_a_lease_that_expired_again_after_a_renewal_is_new(
    here: Store, database_url: str, elapsed: Elapsed
) -> None:
    """A holder that renews too late is slow, not dead."""
    recovered = Recovered()
    expired = ExpiredLeases(here.database, recovered.recover, Leases(here.database))
    await Leases(here.database).acquire(some_id(), some_id())
    rows(database_url, "UPDATE leases SET expires_at = now() - interval '1 hour'")
    await expired.check()
    elapsed.seconds += EXPIRED_FOR_S - 1
    rows(database_url, "UPDATE leases SET expires_at = now() - interval '1 minute'")
    await expired.check()
    elapsed.seconds += EXPIRED_FOR_S - 1
    await expired.check()
    assert recovered.turns == []
    elapsed.seconds += 1
    await expired.check()
    assert len(recovered.turns) == 1


@pytest.mark.usefixtures("_quick")
async def test_a_released_lease_is_taken_over_without_a_wait(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expired_module, "EXPIRED_FOR_S", 3600.0)
    turn_id = some_id()
    holder = Leases(here.database)
    await holder.acquire(some_id(), turn_id)
    await holder.release(turn_id)
    recovered = Recovered()
    watch = Leases(here.database)
    await watch.open(recovered.recover)
    try:
        await until(lambda: recovered.turns == [turn_id])
    finally:
        await watch.close()


@pytest.mark.usefixtures("_quick")
async def test_leases_are_renewed_again_after_the_database_was_read_only(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each session takes the default of its database when it starts."""
    name = rows(database_url, "SELECT current_database()")[0][0]
    turn_id = some_id()
    async with opened(database_url, listening=False) as store:
        leases = Leases(store.database)
        await leases.acquire(some_id(), turn_id)
        await leases.open(nothing)
        try:
            set_read_only(database_url, name, on=True)
            await until(lambda: "leases waits for the store" in caplog.text)
            set_read_only(database_url, name, on=False)
            rows(database_url, "UPDATE leases SET expires_at = now()")
            await until(lambda: rows(database_url, "SELECT 1 FROM leases WHERE expires_at > now()"))
        finally:
            await leases.close()


def set_read_only(conninfo: str, name: str, *, on: bool) -> None:
    """Make new sessions of a database read-only or writable, and end the present ones."""
    with psycopg.connect(conninfo, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        setting = sql.SQL("on" if on else "off")
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(sql.Identifier(name), setting)
        )
    rows(
        conninfo,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'turnlog'",
    )


@pytest.mark.usefixtures("_quick")
async def test_a_process_without_leases_ends_no_turn_after_the_database_was_read_only(
    here: Store, there: Store, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The leases of others expire meanwhile.

    Their holders renew them once the database is writable again.
    """
    monkeypatch.setattr(leases_module, "LEASE_S", 0.2)
    monkeypatch.setattr(expired_module, "EXPIRED_FOR_S", 3600.0)
    name = rows(database_url, "SELECT current_database()")[0][0]
    turn_id, recovered = some_id(), Recovered()
    holder, watch = Leases(here.database), Leases(there.database)
    await holder.acquire(some_id(), turn_id)
    await holder.open(nothing)
    await watch.open(recovered.recover)
    try:
        set_read_only(database_url, name, on=True)
        await until(lambda: "expired-leases waits for the store" in caplog.text)
        await until(lambda: rows(database_url, "SELECT 1 FROM leases WHERE expires_at < now()"))
        set_read_only(database_url, name, on=False)
        await until(lambda: rows(database_url, "SELECT 1 FROM leases WHERE expires_at > now()"))
        assert recovered.turns == []
    finally:
        await watch.close()
        await holder.close()


@pytest.mark.usefixtures("_quick")
async def test_leases_are_renewed_while_other_turns_are_recovered(here: Store, database_url: str) -> None:
    own, dead = some_id(), some_id()
    recovering, go_on = asyncio.Event(), asyncio.Event()

    async def recover(conversation_id: UUID, turn_id: UUID) -> None:
        recovering.set()
        await go_on.wait()

    leases, dead_process = Leases(here.database), Leases(here.database)
    await dead_process.acquire(some_id(), dead)
    await dead_process.release(dead)
    await leases.acquire(some_id(), own)
    await leases.open(recover)
    try:
        await recovering.wait()
        rows(database_url, "UPDATE leases SET expires_at = now() WHERE turn_id = %s", [own])
        await until(lambda: rows(database_url, "SELECT 1 FROM leases WHERE turn_id = %s AND expires_at > now()", [own]))
    finally:
        go_on.set()
        await leases.close()


@pytest.mark.usefixtures("_quick")
async def test_hundreds_of_dead_turns_are_recovered_concurrently(here: Store, database_url: str) -> None:
    rows(
        database_url,
        "INSERT INTO leases (turn_id, conversation_id, holder, expires_at) "
        "SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() FROM generate_series(1, 500)",
    )
    recovered = Recovered()
    leases = Leases(here.database)
    await leases.open(recovered.recover)
    try:
        await until(lambda: len(recovered.turns) == 500)
        await until(lambda: not rows(database_url, "SELECT 1 FROM leases"))
    finally:
        await leases.close()
    assert len(set(recovered.turns)) == 500


@pytest.mark.usefixtures("_quick")
async def test_a_dead_turn_is_recovered_after_the_clock_was_set_back(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired_module, "LONGEST_LEASE_S", 0.05)
    dead, recovered = some_id(), Recovered()
    dead_process, leases = Leases(here.database), Leases(here.database)
    await dead_process.acquire(some_id(), dead)
    rows(database_url, "UPDATE leases SET expires_at = expires_at + interval '1 hour'")
    await leases.open(recovered.recover)
    try:
        await until(lambda: recovered.turns == [dead] and not rows(database_url, "SELECT 1 FROM leases"))
    finally:
        await leases.close()


async def test_a_repeated_takeover_of_a_lease_succeeds(here: Store) -> None:
    """A statement whose answer was lost runs again."""
    turn_id = some_id()
    dead_process, leases = Leases(here.database), Leases(here.database)
    await dead_process.acquire(some_id(), turn_id)
    await dead_process.release(turn_id)
    assert [await leases.take_over(turn_id), await leases.take_over(turn_id)] == [True, True]
