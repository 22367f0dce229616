"""A search finds exactly the wanted events, and each page reads a bounded part."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.aggregates import AggregateEvent
from domain.audit import AuditRead
from domain.events import EVENT_TYPES
from eventlog import log_search
from eventlog.log_search import EventFilter, FoundEvents, LogSearch
from tests.support.histories.agents import AgentStory
from tests.support.histories.builders import BEGINNING, Story, audit_read
from tests.support.store import Store, rows

SKEW = timedelta(days=3)
FIRST = datetime.min.replace(tzinfo=UTC)
ACTORS = ["user:alice", "user:bob", "auditor:watch", "user:nobody"]


@dataclass(frozen=True)
class Entry:
    """A recorded event, with what a filter looks at."""

    position: int
    id: UUID
    version: int
    type: str
    actor: str
    owner_id: str | None
    at: datetime


def is_wanted(wanted: EventFilter, entry: Entry) -> bool:
    def is_after(moment: int | datetime | None) -> bool:
        return moment is None or (entry.position > moment if isinstance(moment, int) else entry.at > moment)

    def is_before(moment: int | datetime | None) -> bool:
        return moment is None or (entry.position < moment if isinstance(moment, int) else entry.at < moment)

    return (
        wanted.type in (None, entry.type)
        and wanted.actor in (None, entry.actor)
        and wanted.owner_id in (None, entry.owner_id)
        and is_after(wanted.after)
        and is_before(wanted.before)
    )


def a_long_story(owner: str, begins: datetime) -> Story:
    story = Story(owner=owner, begins=begins, title="Talk")
    for words in ("one", "two"):
        story.ask(words)
        story.stream("a", "b")
        story.stream("c")
        story.complete("abc")
    story.ask("three")
    story.fail("no")
    story.rename(title="Talked")
    story.ask("four")
    story.cancel("x")
    return story


def events_of_many() -> list[tuple[str | None, AggregateEvent]]:
    """Return events with their owners. Their times run backwards again and again."""
    stories = [("alice", a_long_story("alice", BEGINNING)), ("bob", a_long_story("bob", BEGINNING + SKEW))]
    agents = [("alice", AgentStory("a", "alice")), (None, AgentStory("a", None)), ("bob", AgentStory("b", "bob"))]
    for _, agent in agents:
        agent.define(system_prompt="Be brief.")
        agent.delete()
    columns: list[list[tuple[str | None, AggregateEvent]]] = [
        *([(owner, event) for event in each.events] for owner, each in (*stories, *agents)),
        [(None, read) for read in reads()],
    ]
    return [each for each in chain.from_iterable(zip_longest(*columns)) if each is not None]


def reads() -> list[AuditRead]:
    """Return reads of one process, the first of which names an owner."""
    first = audit_read()
    update = {"originator_id": first.originator_id, "owner_id": None}
    return [first, *(audit_read(version).model_copy(update=update) for version in range(2, 8))]


async def recorded(store: Store) -> list[Entry]:
    """Record the events of many, and return them."""
    found = events_of_many()
    await store.append([event for _, event in found])
    return [
        Entry(position, event.originator_id, event.originator_version, event.TOPIC, event.actor, owner, event.timestamp)
        for position, (owner, event) in enumerate(found, 1)
    ]


def positions(pages: Sequence[FoundEvents]) -> list[int]:
    return [record["position"] for page in pages for record in page.records]


async def log_pages(search: LogSearch, wanted: EventFilter, limit: int, *, newest_first: bool) -> list[FoundEvents]:
    pages = [await search.in_log(wanted, None, limit, newest_first=newest_first)]
    while pages[-1].end is not None:
        pages.append(await search.in_log(wanted, pages[-1].end, limit, newest_first=newest_first))
    return pages


async def conversation_pages(
    search: LogSearch, id_: UUID, wanted: EventFilter, limit: int, *, newest_first: bool
) -> list[FoundEvents]:
    pages = [await search.in_conversation(id_, wanted, None, limit, newest_first=newest_first)]
    while pages[-1].end is not None:
        pages.append(await search.in_conversation(id_, wanted, pages[-1].end, limit, newest_first=newest_first))
    return pages


moments = st.none() | st.integers(0, 80) | st.integers(-5, 400).map(lambda s: BEGINNING + timedelta(seconds=s))
filters = st.builds(
    EventFilter,
    type=st.none() | st.sampled_from(sorted(EVENT_TYPES)),
    actor=st.none() | st.sampled_from(ACTORS),
    owner_id=st.none() | st.sampled_from(["alice", "bob", "nobody"]),
    after=moments,
    before=moments,
)


async def test_pages_together_hold_exactly_the_wanted_events(here: Store) -> None:
    entries = await recorded(here)

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(wanted=filters, limit=st.integers(1, 30), scanned=st.integers(1, 100), newest_first=st.booleans())
    def collect(wanted: EventFilter, limit: int, scanned: int, newest_first: bool) -> None:
        cases.append((wanted, limit, scanned, newest_first))

    cases: list[tuple[EventFilter, int, int, bool]] = []
    collect()  # hypothesis calls no coroutine
    ids = list({entry.id for entry in entries})
    for number, (wanted, limit, scanned, newest_first) in enumerate(cases):
        search = LogSearch(here.database, max_scanned=scanned, max_scanned_rare=-(-scanned // 10))
        expected = [entry for entry in entries if is_wanted(wanted, entry)][:: -1 if newest_first else 1]
        pages = await log_pages(search, wanted, limit, newest_first=newest_first)
        assert positions(pages) == [entry.position for entry in expected], wanted
        assert max(len(page.records) for page in pages) <= limit
        id_ = ids[number % len(ids)]
        pages = await conversation_pages(search, id_, wanted, limit, newest_first=newest_first)
        assert positions(pages) == [entry.position for entry in expected if entry.id == id_], wanted


async def test_a_found_event_is_the_stored_one(here: Store, database_url: str) -> None:
    await recorded(here)
    (found,) = (await LogSearch(here.database).in_log(EventFilter("TurnFailed", owner_id="alice"), None, 10)).records
    stored = rows(
        database_url,
        "SELECT aggregate_id, version, data::text, request_id, recorded_at, encode(digest, 'hex') FROM events"
        " WHERE position = %s",
        [found["position"]],
    )
    names = ("conversation_id", "version", "data", "request_id", "recorded_at", "digest")
    assert tuple(found[name] for name in names) == stored[0]


async def test_an_empty_log_and_a_missing_conversation_have_one_empty_page(here: Store) -> None:
    search = LogSearch(here.database)
    moment = EventFilter(after=BEGINNING, before=BEGINNING)
    for newest_first in (False, True):
        for wanted in (EventFilter(), EventFilter("AuditRead"), EventFilter("MessageAdded"), moment):
            assert await search.in_log(wanted, None, 10, newest_first=newest_first) == ([], None)
        assert await search.in_conversation(UUID(int=1), EventFilter(), None, 10, newest_first=newest_first) == (
            [],
            None,
        )


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("wanted", [EventFilter(actor="user:nobody"), EventFilter("StreamDelta", owner_id="nobody")])
async def test_a_page_ends_after_so_many_events_however_few_were_wanted(
    here: Store, wanted: EventFilter, newest_first: bool
) -> None:
    entries = await recorded(here)
    search = LogSearch(here.database, max_scanned=10)
    pages = await log_pages(search, wanted, 100, newest_first=newest_first)
    assert len(pages) == -(-len(entries) // 10)
    assert positions(pages) == []


@pytest.mark.parametrize("newest_first", [False, True])
async def test_events_of_a_rare_type_are_found_however_far_apart(here: Store, newest_first: bool) -> None:
    entries = await recorded(here)
    failed = [entry.position for entry in entries if entry.type == "TurnFailed"]
    assert 2 < failed[0] < failed[1] < entries[-1].position - 2
    search = LogSearch(here.database, max_scanned=2, max_scanned_rare=2)
    pages = await log_pages(search, EventFilter("TurnFailed"), 10, newest_first=newest_first)
    assert (len(pages), positions(pages)) == (1, failed[:: -1 if newest_first else 1])
    # The bound holds for them too, where another condition leaves most of them out.
    audited = [entry for entry in entries if entry.type == "AuditRead"]
    unread = EventFilter("AuditRead", actor="user:nobody")
    assert len(await log_pages(search, unread, 10, newest_first=newest_first)) == -(-len(audited) // 2)


async def test_a_page_of_large_events_is_short(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "MAX_PAGE_BYTES", 3000)
    story = Story()
    story.say("small")
    for _ in range(3):
        story.say("".join(uuid4().hex for _ in range(100)))  # PostgreSQL cannot compress it
    await here.append(story.events)
    pages = await log_pages(LogSearch(here.database), EventFilter(), 100, newest_first=False)
    assert [len(page.records) for page in pages] == [2, 1, 1, 1]
    assert positions(pages) == [1, 2, 3, 4, 5]


async def test_events_that_are_recorded_meanwhile_are_neither_repeated_nor_missed(here: Store) -> None:
    entries = await recorded(here)
    search = LogSearch(here.database)
    first = await search.in_log(EventFilter(), None, 10)
    newest = await search.in_log(EventFilter(), None, 10, newest_first=True)
    await here.append(Story(begins=BEGINNING + timedelta(hours=1)).events)
    rest = await search.in_log(EventFilter(), first.end, 1000)
    older = await search.in_log(EventFilter(), newest.end, 1000, newest_first=True)
    last = entries[-1].position
    assert positions([first, rest]) == list(range(1, last + 2))
    assert positions([newest, older]) == list(range(last, 0, -1))


async def test_a_time_is_found_among_events_that_are_far_apart(here: Store) -> None:
    first, second = Story(), Story(begins=BEGINNING + timedelta(days=30))
    third = Story(begins=BEGINNING + timedelta(days=60))
    await here.append([*first.events, *second.events, *third.events])
    search = LogSearch(here.database, max_scanned=1)
    day = timedelta(days=1)
    middle = EventFilter(after=first.events[0].timestamp + day, before=third.events[0].timestamp - day)
    for newest_first in (False, True):
        found = await search.in_log(middle, None, 10, newest_first=newest_first)
        assert (positions([found]), found.end) == ([2], None)


@pytest.mark.parametrize("at", [FIRST, datetime.max.replace(tzinfo=UTC)])
async def test_the_first_and_the_last_time_that_can_be_written_are_answered(here: Store, at: datetime) -> None:
    entries = await recorded(here)
    search = LogSearch(here.database)
    after, before = [await search.in_log(each, None, 1000) for each in (EventFilter(after=at), EventFilter(before=at))]
    found = (len(after.records), len(before.records))
    assert found == ((len(entries), 0) if at == FIRST else (0, len(entries)))
