"""Each read of the past is what the read models and a naive reading gave then."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from domain.agent import AgentEvent
from domain.aggregates import ENVELOPE_FIELDS, AggregateEvent
from domain.content import ImageBlock, ReasoningBlock, TextBlock
from domain.events import ConversationEvent, MessageAdded
from eventlog.errors import UnknownEventError
from projections.apply import run_changes
from projections.as_of import past_history, past_listing
from projections.as_of.past_agents import PastAgents
from projections.as_of.past_events import PastEvents
from projections.catalog import PROJECTIONS, prepare
from projections.models.agent_listing import AgentListing, AgentPlace, AgentRow
from projections.models.history_rows import MessageRow
from projections.models.listing_filter import ListingFilter
from projections.projection import Change
from tests.support.histories.agents import agent_histories, one_of_each_agent
from tests.support.histories.builders import Story, one_of_each
from tests.support.histories.histories import histories
from tests.support.histories.releases import store_row
from tests.support.naive_views.context import naive_window
from tests.support.naive_views.history import naive_history
from tests.support.naive_views.listing import naive_listing
from tests.support.past import (
    MANY,
    Readers,
    conversation_answers,
    listing_answers,
    message_answer,
    readers_at,
    readers_of_now,
)
from tests.support.store import Store, opened
from turns.model.sent_context import sent_context

MOVE = Change(b"SELECT 1", {})
ON_ONE_LOG = settings(
    max_examples=6,
    phases=[Phase.generate],  # the examples share a log, which cannot be emptied
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

_all_events: dict[str, list[ConversationEvent]] = {}


Apply = Callable[[AggregateEvent], Awaitable[None]]


@asynccontextmanager
async def live_models(conninfo: str, schema: str = "turnlog") -> AsyncGenerator[Apply]:
    """Yield a function that applies one event to all read models, as an engine does."""
    options = f"-c search_path={schema} -c timezone=UTC"
    async with await AsyncConnection.connect(conninfo, autocommit=True, options=options) as connection:

        async def apply(event: AggregateEvent) -> None:
            changes = [projection.changes(projection.select([event])) for projection in PROJECTIONS]
            await run_changes(connection, changes, MOVE, 1)

        yield apply


async def answers(readers: Readers, event: ConversationEvent, number: int) -> dict[str, Any]:
    """Return what the readers tell of the conversation of an event, and of others."""
    id_ = event.originator_id
    found = {**await conversation_answers(readers, id_), **await listing_answers(readers, number)}
    if (message_id := getattr(event, "message_id", None)) is not None:
        found["message"] = await message_answer(readers, id_, message_id)
    return found


async def check_every_position(conninfo: str, events: Sequence[ConversationEvent]) -> None:
    """Append events, and compare each position with the read models of then.

    The past is read when all events are in the log. The read models never hold more than the events up to then.
    """
    before = _all_events.setdefault(conninfo, [])
    first = len(before) + 1
    before += events
    async with opened(conninfo, listening=False) as store, live_models(conninfo) as apply:
        await store.append(events)
        for number, event in enumerate(events):
            await apply(event)
            then = await answers(readers_of_now(store.database), event, number)
            readers = readers_at(store.database, first + number)
            now = await answers(readers, event, number)
            for question, answer in then.items():
                assert now[question] == answer, (question, number, type(event).__name__)
            await check_naive(readers, before[: first + number], event.originator_id)


async def check_naive(readers: Readers, events: Sequence[ConversationEvent], id_: UUID) -> None:
    """Compare a position with a naive reading of the log up to it."""
    told = [event for event in events if event.originator_id == id_]
    (wanted,) = naive_listing(told)
    row = await readers.listing.get(id_)
    assert row is not None
    assert {"conversation_id": row.id, **row._asdict(), "status": row.status}.items() >= {
        name: value for name, value in wanted.items() if name != "metadata"
    }.items()
    messages = await readers.history.page(id_, descending=False, superseded=True, beyond=None, limit=MANY)
    shown = sorted(naive_history(told), key=lambda each: each["version"])
    assert [(each.id, each.version, each.status) for each in messages] == [
        (each["message_id"], each["version"], each["status"]) for each in shown
    ]
    assert await sent_context(readers.context, id_, 40) == naive_window(told, 40)
    listed = await readers.listing.page(None, ListingFilter(), None, MANY)
    assert {each.id for each in listed} == {
        each["conversation_id"] for each in naive_listing(events) if not each["deleted"]
    }


async def test_a_conversation_with_every_type_of_event_is_read_as_of_every_position(prepared_url: str) -> None:
    await check_every_position(prepared_url, one_of_each())


@ON_ONE_LOG
@given(events=histories(most_steps=25), at_once=st.sampled_from([1, 2, 500]))
def test_any_history_is_read_as_of_every_position(
    prepared_url: str, events: list[ConversationEvent], at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(past_listing, "CONVERSATIONS_AT_ONCE", at_once)
        asyncio.run(check_every_position(prepared_url, events))


async def test_content_of_every_kind_is_counted_as_the_index_of_now_counts_it(prepared_url: str) -> None:
    story = Story()
    story.say(content=(ImageBlock(url="https://example.org/a.png"), TextBlock(text="Look")), tokens=5)
    story.say("Hm", "assistant", content=(ReasoningBlock(text="x" * 90), TextBlock(text="y" * 30)), tokens=40)
    story.say("Be brief", "system", tokens=2)
    story.ask("q" * 50)
    story.call_tools("add", "find", words="Let me see.")
    story.give_results("42")
    story.complete("z" * 500, tokens=170)
    await check_every_position(prepared_url, story.events)


_schemas = count(1)


@ON_ONE_LOG
@given(events=agent_histories(most_steps=15))
def test_any_agents_are_listed_as_of_every_position(prepared_url: str, events: list[AgentEvent]) -> None:
    # The agents of all examples have the same ids, so each example has a log of its own.
    schema = f"agents_{next(_schemas)}"
    prepare(prepared_url, schema)
    asyncio.run(check_agents(prepared_url, schema, events))


def test_an_agent_with_every_field_is_listed_as_of_every_position(prepared_url: str) -> None:
    asyncio.run(check_agents(prepared_url, "turnlog", one_of_each_agent()))


async def check_agents(conninfo: str, schema: str, events: Sequence[AgentEvent]) -> None:
    async with opened(conninfo, schema, listening=False) as store, live_models(conninfo, schema) as apply:
        await store.append(events)
        for position, event in enumerate(events, start=1):
            await apply(event)
            live, past = AgentListing(store.database), PastAgents(store.database, position)
            for owner in ("alice", "bob", "carol", None):
                assert await agent_pages(past, owner) == await agent_pages(live, owner)


async def agent_pages(listing: AgentListing | PastAgents, owner_id: str | None) -> list[AgentRow]:
    """Return all agents, read in pages."""
    seen: list[AgentRow] = []
    beyond: AgentPlace | None = None
    while rows := await listing.page(owner_id, beyond, 2):
        seen += rows
        beyond = AgentPlace(rows[-1].agent_id, rows[-1].id)
    return seen


async def test_before_the_beginning_nothing_exists(prepared_url: str, here: Store) -> None:
    story = Story()
    await here.append([*story.events, *story.say()])
    readers = readers_at(here.database, 0)
    found = await conversation_answers(readers, story.id)
    assert found.pop("conversation") is None
    assert [found.pop(name) for name in list(found) if name.startswith("messages")] == [[]] * 4
    assert list(found.values()) == [([], 0, 0)] * len(found)
    assert await readers.listing.page(None, ListingFilter(), None, MANY) == []
    assert await message_answer(readers, story.id, story.messages()[0].message_id) is None
    assert await PastAgents(here.database, 0).page(None, None, MANY) == []


async def test_a_page_goes_on_behind_messages_that_are_not_shown(prepared_url: str, here: Store) -> None:
    story = Story()
    for number in range(40):
        story.say(f"q{number}")
    for message in story.messages()[5:30]:
        story.unsay(message.message_id)
    position = await here.append(story.events)
    history = readers_at(here.database, position).history
    for descending in (False, True):
        seen: list[int] = []
        while page := await history.page(
            story.id, descending=descending, superseded=False, beyond=seen[-1] if seen else None, limit=4
        ):
            assert len(page) <= 4
            seen += [row.version for row in page]
        kept = [event.originator_version for event in (*story.messages()[:5], *story.messages()[30:])]
        assert seen == (kept[::-1] if descending else kept)


@pytest.mark.parametrize("descending", [False, True])
async def test_a_page_does_not_keep_the_messages_that_it_leaves_out(
    prepared_url: str, here: Store, monkeypatch: pytest.MonkeyPatch, descending: bool
) -> None:
    story = Story()
    version = story.ask("q0")[0].originator_version
    story.complete("a0")
    for number in range(1, 60):
        story.ask(f"q{number}", replacing=version)
        story.complete(f"a{number}")
    position = await here.append(story.events)
    monkeypatch.setattr(past_history, "MESSAGES_AT_ONCE", 8)
    folded: list[int] = []
    rows_of = past_history._rows

    def noting(events: Mapping[int, AggregateEvent]) -> list[MessageRow]:
        folded.append(sum(isinstance(event, MessageAdded) for event in events.values()))
        return rows_of(events)

    monkeypatch.setattr(past_history, "_rows", noting)
    history = readers_at(here.database, position).history
    page = await history.page(story.id, descending=descending, superseded=False, beyond=None, limit=3)
    assert sorted(row.id for row in page) == sorted(message.message_id for message in story.messages()[-2:])
    assert max(folded) <= 8


async def test_conversations_of_others_are_not_found(prepared_url: str, here: Store) -> None:
    story = Story(owner="bob")
    position = await here.append(story.events)
    listing = readers_at(here.database, position).listing
    assert await listing.get(story.id, "alice") is None
    assert await listing.get(story.id, "bob") is not None
    assert await listing.page("alice", ListingFilter(), None, MANY) == []


async def test_deltas_are_read_for_a_message_that_streams_and_for_nothing_else(
    prepared_url: str, here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    story.ask()
    story.stream("Be", "cause")
    streaming = len(story.events)
    story.complete("Because")
    await here.append(story.events)
    read: list[UUID] = []
    stream_text = PastEvents.stream_text

    async def noting(self: PastEvents, conversation_id: UUID, after: int) -> Any:
        read.append(conversation_id)
        return await stream_text(self, conversation_id, after)

    monkeypatch.setattr(PastEvents, "stream_text", noting)
    monkeypatch.delattr(PastEvents, "deltas")  # only for other shapes
    for position, times in ((streaming, 1), (len(story.events), 0)):
        readers = readers_at(here.database, position)
        rows = await readers.history.page(story.id, descending=False, superseded=False, beyond=None, limit=9)
        assert '"Because"' in rows[-1].content
        await readers.listing.get(story.id)
        await readers.listing.page("alice", ListingFilter(), None, 9)
        await sent_context(readers.context, story.id, 100)
        assert read == [story.id] * times
        read.clear()


async def test_a_streaming_text_is_joined_from_its_chunks_in_their_order(prepared_url: str, here: Store) -> None:
    story = Story()
    story.ask()
    story.stream("a", "", "b", block_type="reasoning")
    for number in range(12):
        story.stream(f"{number},", "é\n\u2028", block_index=1)
    position = await here.append(story.events)
    (row,) = await readers_at(here.database, position).history.page(
        story.id, descending=True, superseded=False, beyond=None, limit=1
    )
    text = "".join(f"{number},é\n\u2028" for number in range(12))
    assert orjson.loads(row.content) == [{"type": "reasoning", "text": "ab"}, {"type": "text", "text": text}]


@pytest.mark.parametrize("data", [{"class_version": 99, "chunks": ["b"]}, {"words": "no chunks"}, {"chunks": "b"}])
async def test_a_delta_of_a_newer_release_is_not_left_out(prepared_url: str, here: Store, data: dict[str, Any]) -> None:
    story = Story()
    story.ask()
    story.stream("a")
    await here.append(story.events)
    (newer,) = story.stream("b")
    fields = newer.model_dump(mode="json", exclude={*ENVELOPE_FIELDS, "chunks"})
    position = store_row(prepared_url, newer, "StreamDelta", {**fields, **data})
    history = readers_at(here.database, position).history
    with pytest.raises(UnknownEventError):
        await history.page(story.id, descending=True, superseded=False, beyond=None, limit=1)
    (row,) = await readers_at(here.database, position - 1).history.page(
        story.id, descending=True, superseded=False, beyond=None, limit=1
    )
    assert orjson.loads(row.content) == [{"type": "text", "text": "a"}]


@pytest.mark.parametrize("data", [{"class_version": 99, "words": "Psst"}, {"words": "no message"}])
async def test_an_event_of_a_newer_release_stops_only_what_needs_it(
    prepared_url: str, here: Store, data: dict[str, Any]
) -> None:
    story, other = Story(title="known"), Story()
    await here.append([*story.events, *story.say(), *other.events])
    (newer,) = story.say()
    position = store_row(prepared_url, newer, "MessageAdded", data)
    before, after = readers_at(here.database, position - 1), readers_at(here.database, position)
    assert await conversation_answers(before, story.id)
    assert await conversation_answers(after, other.id)
    for read in (
        after.history.page(story.id, descending=True, superseded=False, beyond=None, limit=1),
        sent_context(after.context, story.id, 100),
    ):
        with pytest.raises(UnknownEventError):
            await read
    listed = await after.listing.page("alice", ListingFilter(), None, MANY)
    assert {row.id: row.message_count for row in listed} == {story.id: 2, other.id: 0}


async def test_messages_of_an_older_shape_are_counted_as_they_are_read(prepared_url: str, here: Store) -> None:
    story = Story()
    await here.append(story.events)
    (added,) = story.say("Hello there", tokens=2)
    assert isinstance(added, MessageAdded)
    fields = added.model_dump(mode="json", exclude=set(ENVELOPE_FIELDS))
    position = store_row(prepared_url, added, "MessageAdded", fields)  # version 1 has no `class_version`
    found = await sent_context(readers_at(here.database, position).context, story.id, 100)
    assert found == naive_window(story.events, 100)
