"""Commands from several processes on one log, decided on the newest state."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from commands.executor import Committed
from domain.conversation import Conversation
from domain.decisions import running_turns, turn_starts
from domain.decisions.conversations import Events
from domain.decisions.turn_starts import TurnIds, TurnSettings
from domain.errors import (
    ConversationDeletedError,
    ConversationLockedError,
    ConversationNotFoundError,
    MessageNotFoundError,
    VersionMismatchError,
)
from tests.support.histories.builders import MODEL, answer, draft, origin, some_id
from tests.support.store import ALICE, HELLO, Store, opened, rows, started


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, listening=False) as store:
        yield store


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Store]:
    """A store of another process on the same log. The two do not communicate."""
    async with opened(database_url, listening=False) as store:
        yield store


async def ask(store: Store, conversation_id: UUID) -> UUID:
    turn_id = some_id()

    def decide(state: Conversation) -> Events:
        ids = TurnIds(turn_id, some_id(), some_id())
        return turn_starts.start_turn(state, origin(), draft(), TurnSettings(MODEL), ids)

    await store.conversations.execute(conversation_id, decide)
    return turn_id


async def finish(store: Store, conversation_id: UUID, turn_id: UUID) -> Committed:
    return await store.conversations.execute(
        conversation_id, lambda state: running_turns.complete_turn(state, origin(), turn_id, answer())
    )


async def test_a_command_returns_the_new_state_and_its_position_in_the_log(here: Store) -> None:
    begun = await here.commands.start(ALICE, title="Hello", messages=[HELLO])
    assert (begun.position, begun.state.version, begun.state.message_count) == (2, 2, 1)
    added = await here.commands.add_message(ALICE, begun.state.id, HELLO)
    assert (added.position, added.state.version, [type(e).__name__ for e in added.events]) == (3, 3, ["MessageAdded"])


async def test_a_write_takes_events_of_another_process_into_account(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    for store in (there, here, there, there, here):
        await store.commands.add_message(ALICE, conversation_id, HELLO)
    state = await here.conversations.state(conversation_id)
    assert (state.version, state.message_count) == (6, 5)
    assert await there.conversations.state(conversation_id) == state


async def test_a_lock_that_another_process_released_refuses_nothing(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    turn_id = await ask(here, conversation_id)
    await finish(there, conversation_id, turn_id)
    assert (await here.commands.add_message(ALICE, conversation_id, HELLO)).state.message_count == 3


async def test_a_lock_of_another_process_refuses_a_command(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    turn_id = await ask(there, conversation_id)
    with pytest.raises(ConversationLockedError) as refusal:
        await here.commands.add_message(ALICE, conversation_id, HELLO)
    assert refusal.value.active_turn_id == turn_id


async def test_a_refusal_is_based_on_the_newest_state(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    first = await ask(here, conversation_id)
    await finish(there, conversation_id, first)
    second = await ask(there, conversation_id)
    with pytest.raises(ConversationLockedError) as refusal:
        await here.commands.add_message(ALICE, conversation_id, HELLO)
    assert refusal.value.active_turn_id == second


async def test_a_conversation_that_another_process_deleted_is_deleted(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    await there.commands.delete(ALICE, conversation_id)
    with pytest.raises(ConversationDeletedError):
        await here.commands.update(ALICE, conversation_id, {"title": "New"})


async def test_the_expected_version_is_compared_with_that_of_another_process(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    await there.commands.update(ALICE, conversation_id, {"title": "There"})
    with pytest.raises(VersionMismatchError):
        await here.commands.update(ALICE, conversation_id, {"title": "Here"}, expected_versions={1})
    assert (await here.commands.update(ALICE, conversation_id, {"title": "Here"}, {2})).state.title == "Here"


async def test_a_change_that_only_a_stale_state_already_has_is_recorded(here: Store, there: Store) -> None:
    conversation_id = await started(here, title="Old")
    await there.commands.update(ALICE, conversation_id, {"title": "New"})
    back = await here.commands.update(ALICE, conversation_id, {"title": "Old"})
    assert (back.state.title, back.state.version) == ("Old", 3)
    assert (await there.conversations.state(conversation_id)).title == "Old"


async def test_an_update_without_a_change_records_nothing(here: Store) -> None:
    conversation_id = await started(here, title="Old")
    assert (await here.commands.update(ALICE, conversation_id, {"title": "Old"})).position is None
    assert await here.log.head() == 1


async def test_a_message_that_another_process_deleted_cannot_be_deleted_again(here: Store, there: Store) -> None:
    begun = await here.commands.start(ALICE, messages=[HELLO])
    message_id: UUID = begun.events[1].message_id  # pyright: ignore[reportAttributeAccessIssue]
    await there.commands.delete_message(ALICE, begun.state.id, message_id)
    with pytest.raises(MessageNotFoundError):
        await here.commands.delete_message(ALICE, begun.state.id, message_id)
    assert (await here.conversations.state(begun.state.id)).message_count == 0


async def test_a_reply_to_an_unknown_message_is_refused(here: Store) -> None:
    conversation_id = await started(here)
    with pytest.raises(MessageNotFoundError):
        await here.commands.add_message(ALICE, conversation_id, HELLO._replace(in_reply_to=some_id()))


async def test_an_unknown_conversation_is_not_found(here: Store) -> None:
    with pytest.raises(ConversationNotFoundError):
        await here.commands.add_message(ALICE, some_id(), HELLO)
    with pytest.raises(ConversationNotFoundError):
        await here.conversations.state(some_id())


async def test_all_messages_of_eight_callers_in_two_processes_are_recorded_in_one_order(
    here: Store, there: Store, database_url: str
) -> None:
    conversation_id = await started(here)

    async def add_ten(store: Store) -> list[int]:
        added = [await store.commands.add_message(ALICE, conversation_id, HELLO) for _ in range(10)]
        return [commit.state.version for commit in added]

    answers = await asyncio.gather(*(add_ten(store) for store in [here, there] * 4))
    assert sorted(version for versions in answers for version in versions) == list(range(2, 82))
    assert all(versions == sorted(versions) for versions in answers)
    found = rows(database_url, "SELECT version FROM events ORDER BY position")
    assert found == [(version,) for version in range(1, 82)]
    assert (await here.conversations.state(conversation_id)).message_count == 80


async def test_one_of_two_turns_started_at_once_in_two_processes_is_refused(here: Store, there: Store) -> None:
    conversation_id = await started(here)
    done = await asyncio.gather(*(ask(store, conversation_id) for store in (here, there)), return_exceptions=True)
    assert sorted(type(item) is ConversationLockedError for item in done) == [False, True]


async def test_another_owners_command_waits_for_no_command_of_the_owner(here: Store) -> None:
    conversation_id, entered, go_on = await started(here), asyncio.Event(), asyncio.Event()

    async def decide(state: Conversation) -> Events:
        entered.set()
        await go_on.wait()
        return []

    slow = asyncio.create_task(here.conversations.execute(conversation_id, decide, owner_id=ALICE.owner_id))
    await entered.wait()
    with pytest.raises(ConversationNotFoundError):
        await here.commands.add_message(ALICE._replace(owner_id="bob"), conversation_id, HELLO)
    assert not slow.done()
    go_on.set()
    await slow
