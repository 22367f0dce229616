"""Commands with lost races, lost answers and cancelled callers."""

import asyncio
from typing import Any

import pytest

from commands.executor import CommandExecutor, Committed
from domain.conversation import Conversation
from domain.decisions import conversations
from domain.decisions.conversations import Events
from domain.errors import WriteConflictError
from eventlog.errors import StoreUnavailableError
from eventlog.writer import GroupCommitWriter
from tests.support.histories.builders import draft, origin, some_id
from tests.support.losing_writer import LosingWriter
from tests.support.store import ALICE, HELLO, Store, started


async def test_a_caller_that_loses_every_race_gets_a_conflict(here: Store) -> None:
    conversation_id = await started(here)
    losing = CommandExecutor(here.log, LosingWriter(here.database), conflict_pauses_s=(0, 0))
    with pytest.raises(WriteConflictError):
        await losing.execute(
            conversation_id, lambda state: conversations.add_message(state, origin(), draft(), some_id())
        )


class Forgetful(GroupCommitWriter):
    """A writer whose connection breaks after a commit, before its answer."""

    async def lose(self, done: asyncio.Future[int]) -> int:
        await done
        raise StoreUnavailableError("The store does not answer.")

    def append(self, *arguments: Any, **more: Any) -> asyncio.Future[int]:
        return asyncio.ensure_future(self.lose(super().append(*arguments, **more)))


async def test_the_next_command_finds_a_commit_whose_answer_was_lost(here: Store) -> None:
    conversation_id = await started(here)
    writer = Forgetful(here.database)
    await writer.open()
    forgetful = CommandExecutor(here.log, writer)

    def decide(state: Conversation) -> Events:
        return conversations.add_message(state, origin(), draft(), some_id())

    for expected in (1, 2):
        with pytest.raises(StoreUnavailableError):
            await forgetful.execute(conversation_id, decide)
        assert (await forgetful.state(conversation_id)).message_count == expected
    await writer.close()


async def test_a_cancelled_caller_does_not_affect_later_commands(here: Store) -> None:
    conversation_id = await started(here)
    leaving = asyncio.create_task(here.commands.add_message(ALICE, conversation_id, HELLO))
    for _ in range(3):
        await asyncio.sleep(0)
    leaving.cancel()
    after = await here.commands.add_message(ALICE, conversation_id, HELLO)
    assert after.state == await here.log.state(conversation_id)


async def test_commands_run_one_at_a_time_and_a_cancelled_one_delays_no_other(here: Store) -> None:
    conversation_id = await started(here)
    adding = [asyncio.create_task(here.commands.add_message(ALICE, conversation_id, HELLO)) for _ in range(9)]
    await asyncio.sleep(0)
    for leaving in adding[1::3]:
        leaving.cancel()
    done = await asyncio.gather(*adding, return_exceptions=True)
    versions = [commit.state.version for commit in done if isinstance(commit, Committed)]
    assert versions == [2, 3, 4, 5, 6, 7]
