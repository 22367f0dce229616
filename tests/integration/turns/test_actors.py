"""Events name the actor that caused them, and conversations keep their owner."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from api.http.idempotency import find_repeated
from api.services import Services, open_services
from api.settings import load_settings
from commands.commands import Caller
from domain.decisions.turn_starts import TurnSettings
from domain.events import TurnStarted
from eventlog.errors import IdempotencyKeyTakenError
from eventlog.writer import Idempotency
from tests.support.histories.builders import MODEL
from tests.support.store import ALICE, HELLO, rows, until
from turns.model.gateway import ModelGateway

BILLING = Caller("alice", "service:billing", "req-2")
KEY = Idempotency("alice", "key-1", b"f" * 32)
CLIENT_RUNS_IT = TurnSettings(MODEL, generate=False)


@pytest.fixture
async def services(prepared_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    """The services of a process without a model library. No test here calls a model."""

    async def load_nothing(_: ModelGateway) -> None:
        pass

    monkeypatch.setattr(ModelGateway, "warm_up", load_nothing)
    async with open_services(load_settings(), prepared_url) as services:
        yield services


async def running_turn(services: Services) -> tuple[UUID, UUID]:
    """Start a conversation and a client's turn as Alice, and return both ids."""
    started = await services.turns.start_with_conversation(ALICE, HELLO, CLIENT_RUNS_IT, agent_id=None, title=None)
    return started.key.conversation_id, started.key.turn_id


def actors(conninfo: str, after: int) -> list[tuple[str, str]]:
    """Return type and actor of the events after a position."""
    return rows(conninfo, "SELECT type, actor FROM events WHERE position > %s ORDER BY position", [after])


async def test_a_queued_turn_keeps_its_actor_when_a_server_starts_it_later(
    services: Services, prepared_url: str
) -> None:
    id_, turn_id = await running_turn(services)
    queued = await services.turns.start(BILLING, id_, HELLO, CLIENT_RUNS_IT, on_busy="queue")
    ended = await services.client_turns.complete(ALICE, id_, turn_id, None, "stop")
    assert ended.position is not None
    await until(lambda: len(actors(prepared_url, ended.position or 0)) == 2)
    recorded = await services.log.events(id_, ended.state.version + 1)
    assert {(item.event.actor, item.event.request_id) for item in recorded} == {("service:billing", "req-2")}
    begun = recorded[-1].event
    assert isinstance(begun, TurnStarted)
    assert begun.turn_id == queued.key.turn_id
    # The turn is the owner's, although a service queued it.
    await services.cancels.cancel(ALICE, id_, queued.key.turn_id)
    assert actors(prepared_url, recorded[-1].position) == [("TurnCancelled", "user:alice")]


async def test_a_turn_that_no_client_continues_is_ended_by_the_system(services: Services, prepared_url: str) -> None:
    id_, turn_id = await running_turn(services)
    head = await services.log.head()
    await services.recovery.recover(id_, turn_id)
    assert actors(prepared_url, head) == [("TurnFailed", "system")]


async def test_another_actor_of_the_owner_continues_a_turn(services: Services, prepared_url: str) -> None:
    id_, turn_id = await running_turn(services)
    head = await services.log.head()
    await services.client_turns.record(BILLING, id_, turn_id, 2, ["Hello"])
    await services.client_turns.complete(ALICE, id_, turn_id, None, "stop")
    expected = [("StreamDelta", "service:billing"), ("MessageAdded", "user:alice"), ("TurnCompleted", "user:alice")]
    assert actors(prepared_url, head) == expected
    owners = "SELECT DISTINCT data ->> 'owner_id' FROM events WHERE type = 'ConversationStarted'"
    assert rows(prepared_url, owners) == [("alice",)]


async def test_a_key_is_the_owners_whichever_actor_repeats_it(services: Services) -> None:
    first = await services.commands.start(ALICE._replace(idempotency=KEY))
    repeated = await find_repeated(services.log, BILLING._replace(idempotency=KEY))
    assert repeated is not None
    assert (repeated.conversation_id, repeated.position) == (first.state.id, first.position)
    with pytest.raises(IdempotencyKeyTakenError):
        await services.commands.start(BILLING._replace(idempotency=KEY))


async def test_one_key_of_two_owners_gives_two_commands(services: Services) -> None:
    for_bob = Caller("bob", "service:billing", "req-3", KEY._replace(owner_id="bob"))
    first = await services.commands.start(BILLING._replace(idempotency=KEY))
    assert await find_repeated(services.log, for_bob) is None
    second = await services.commands.start(for_bob)
    assert (first.state.owner_id, second.state.owner_id) == ("alice", "bob")
    assert (await services.log.find_idempotent("bob", KEY.key) or first).position == second.position
