"""The list of agents equals a naive reading of the log, and is paged by label."""

import asyncio
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from domain.agent import AgentEvent
from projections.apply import run_changes
from projections.models.agent_listing import AgentListing, AgentPlace, AgentRow, AgentsProjection
from projections.projection import Change
from projections.rebuild.rebuild import rebuild
from projections.rebuild.verify import verify
from tests.support.histories.agents import AgentStory, agent_histories, one_of_each_agent
from tests.support.naive_views.agents import naive_agents
from tests.support.naive_views.rows import Row, in_order
from tests.support.rebuilding import caught_up, in_threads, opened_builder
from tests.support.store import Store, opened

__all__ = ["in_threads"]

AGENTS = AgentsProjection()
MOVE = Change(b"SELECT 1", {})
IN_FEW_EXAMPLES = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def apply(conninfo: str, batches: list[list[AgentEvent]]) -> None:
    """Empty the read model and apply `batches` as the engine does."""
    async with await AsyncConnection.connect(conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
        await connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(AGENTS.table("agents"))))
        for batch in batches:
            await run_changes(connection, [AGENTS.changes(batch)], MOVE, 1)


def found(conninfo: str) -> list[Row]:
    options = "-c search_path=turnlog -c timezone=UTC"
    with psycopg.Connection[Row].connect(conninfo, row_factory=dict_row, options=options) as connection:
        return connection.execute("SELECT * FROM agents").fetchall()


@IN_FEW_EXAMPLES
@given(events=agent_histories(), cuts=st.lists(st.integers(0, 50), max_size=8))
def test_any_history_gives_the_right_rows_in_any_batches(
    prepared_url: str, events: list[AgentEvent], cuts: list[int]
) -> None:
    places = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    split = [events[start:end] for start, end in pairwise(places)]
    for batches in ([events], [[event] for event in events], split):
        asyncio.run(apply(prepared_url, batches))
        assert in_order(found(prepared_url)) == in_order(naive_agents(events))


@pytest.mark.usefixtures("in_threads")
async def test_a_rebuild_and_a_verification_give_the_same_rows(prepared_url: str, here: Store) -> None:
    stories = [AgentStory(label, owner) for owner in ("alice", None) for label in ("a", "b", "c")]
    for story in stories:
        story.define(system_prompt="Be brief.")
        story.define(temperature=0.5)
    stories[0].delete()
    events: list[AgentEvent] = [event for story in stories for event in story.events]
    await here.append([*events, *one_of_each_agent()])
    await caught_up(here)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, [AGENTS])
        (comparison,) = await verify(builder, [AGENTS])
    assert (comparison.rows, comparison.differing) == (5, 0)
    assert in_order(found(prepared_url)) == in_order(naive_agents([*events, *one_of_each_agent()]))


async def pages(conninfo: str, owner_id: str | None, limit: int = 2) -> list[AgentRow]:
    """Return all agents that an owner can use, read in pages."""
    seen: list[AgentRow] = []
    async with opened(conninfo, listening=False) as store:
        listing = AgentListing(store.database)
        beyond: AgentPlace | None = None
        while rows := await listing.page(owner_id, beyond, limit):
            seen += rows
            beyond = AgentPlace(rows[-1].agent_id, rows[-1].id)
    return seen


async def test_an_owner_sees_its_own_agents_and_the_shared_ones_that_none_of_them_hides(prepared_url: str) -> None:
    of: Any = {"alice": "aceg", "bob": "bc", None: "abcdef"}
    events: list[AgentEvent] = []
    for owner, labels in of.items():
        for label in labels:
            events += AgentStory(label, owner).define()
    await apply(prepared_url, [events])

    def shown(rows: list[AgentRow]) -> list[tuple[str, str | None]]:
        return [(row.agent_id, row.owner_id) for row in rows]

    of_alice = [("a", "alice"), ("b", None), ("c", "alice"), ("d", None), ("e", "alice"), ("f", None), ("g", "alice")]
    for limit in (1, 2, 10):
        assert shown(await pages(prepared_url, "alice", limit)) == of_alice
    assert shown(await pages(prepared_url, "carol")) == [(label, None) for label in "abcdef"]
    every = [(label, owner) for owner, labels in of.items() for label in labels]
    everybody = shown(await pages(prepared_url, None))
    assert sorted(everybody, key=repr) == sorted(every, key=repr)
    assert [label for label, _ in everybody] == sorted(label for label, _ in every)
