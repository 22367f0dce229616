"""Leases: no turn is left open because its start was cut off, or because another turn cannot be ended."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest

from domain.content import TextBlock
from domain.turn_decisions import TurnSettings
from eventlog.commands import Said
from tests.support.builders import MODEL, some_id
from tests.support.store import ALICE, Store, blocked_backend, blocked_head, opened, rows, until
from turns import leases as leases_module
from turns.leases import Leases
from turns.turns import Turns

HELLO = Said("user", (TextBlock(text="Hello"),))


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, listening=False) as store:
        yield store


async def nothing(conversation_id: UUID, turn_id: UUID) -> None:
    """End no turn."""


async def test_a_turn_whose_start_is_cut_off_keeps_its_lease(here: Store, database_url: str) -> None:
    leases, unused = Leases(here.database, nothing), cast(Any, None)
    turns = Turns(here.commands, unused, unused, unused, leases)
    id_ = (await here.commands.start(ALICE)).state.id
    with blocked_head(database_url):
        asking = asyncio.create_task(turns.start(ALICE, id_, HELLO, TurnSettings(MODEL)))
        await blocked_backend(database_url)
        asking.cancel()
        await asyncio.wait([asking])
    await until(lambda: rows(database_url, "SELECT 1 FROM events WHERE type = 'TurnStarted'"))
    await leases.close()
    assert rows(database_url, "SELECT conversation_id FROM leases") == [(id_,)]


async def test_a_turn_that_cannot_be_ended_does_not_keep_others_open(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, other = some_id(), some_id()

    async def recover(conversation_id: UUID, turn_id: UUID) -> None:
        if turn_id == poisoned:
            raise RuntimeError("its events cannot be read")

    monkeypatch.setattr(leases_module, "RENEW_INTERVAL_S", 0.01)
    monkeypatch.setattr(leases_module, "LEASE_S", -1.0)
    dead = Leases(here.database, nothing)
    await dead.take(some_id(), poisoned)
    await dead.take(some_id(), other)
    leases = Leases(here.database, recover)
    await leases.open()
    try:
        await until(lambda: rows(database_url, "SELECT turn_id FROM leases") == [(poisoned,)])
    finally:
        await leases.close()
