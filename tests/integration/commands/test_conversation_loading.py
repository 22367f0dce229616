"""The rows that are read to load the state of a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow

from domain.conversation import Conversation, fold
from domain.decisions import conversations
from domain.decisions.conversations import Events
from eventlog.db.database import Database, Statement
from eventlog.log import Log
from eventlog.mapper import SNAPSHOT_INTERVAL
from tests.support.histories.builders import Story, draft, origin, some_id
from tests.support.store import Store, started, value


class CountingDatabase(Database):
    """A database that counts the rows that it returns."""

    sent = 0

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        found = await super().fetch(statement, parameters)
        self.sent += len(found)
        return found


async def cold_load(conninfo: str, conversation_id: UUID) -> tuple[Conversation | None, int]:
    """Return the state that a new process loads, and the number of rows it reads."""
    database = CountingDatabase(conninfo)
    await database.open()
    state = await Log(database).state(conversation_id)
    await database.close()
    return state, database.sent


async def test_a_conversation_of_two_thousand_events_loads_as_few_rows_as_a_short_one(
    here: Store, database_url: str
) -> None:
    conversation_id = await started(here)

    def add_forty(state: Conversation) -> Events:
        events: Events = []
        for _ in range(40):
            now = fold(state, events)
            assert now is not None
            events += conversations.add_message(now, origin(), draft(), some_id())
        return events

    latest = await here.conversations.execute(conversation_id, add_forty)
    for _ in range(49):
        latest = await here.conversations.execute(conversation_id, add_forty)
    await here.conversations.close()
    state, sent = await cold_load(database_url, conversation_id)
    assert state == latest.state
    assert state is not None and state.version == 2001
    assert sent <= SNAPSHOT_INTERVAL + 2
    assert value(database_url, "SELECT count(*) FROM snapshots") == 2000 // SNAPSHOT_INTERVAL


async def test_loading_the_state_reads_no_deltas(here: Store, database_url: str) -> None:
    story = Story()
    story.ask()
    for _ in range(500):
        story.stream("a", "b")
    await here.append(story.events)
    state, sent = await cold_load(database_url, story.id)
    assert (state, sent) == (story.state, 4)


async def test_loading_continues_from_a_known_state(here: Store) -> None:
    story = Story()
    await here.append(story.events)
    known = await here.log.state(story.id)
    assert known == story.state
    await here.append(story.ask())
    await here.append(story.stream("a"))
    assert await here.log.state(story.id, known) == story.state


async def test_short_states_are_the_states_of_conversations_without_a_snapshot(here: Store) -> None:
    stories = [Story(), Story(title="deleted"), Story(title="streams")]
    stories[1].delete()
    stories[2].ask()
    stories[2].stream("Be", "cause")
    for story in stories:
        await here.append(story.events)
    long = await started(here)
    await here.log.write_snapshot(await here.conversations.state(long))
    ids = [story.id for story in stories]
    found = {state.id: state for state in await here.log.short_states([*ids, long, some_id()])}
    assert found == {id_: await here.log.state(id_) for id_ in ids}
    assert await here.log.short_states([]) == []
