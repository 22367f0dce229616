"""Pages of the listing in every order and with every filter."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow

from domain.events import ConversationEvent
from eventlog.db.database import Database, Statement
from projections.models.listing import ConversationRow, Listing, ListingProjection
from projections.models.listing_filter import ListingFilter, ListingPlace, ListingSort
from tests.support.histories.builders import BEGINNING, Story
from tests.support.naive_views.listing import naive_listing
from tests.support.naive_views.rows import Row
from tests.support.store import Store, opened, rows

SORTS: list[ListingSort] = ["active", "created", "title"]
TITLES = [None, "", " ", "b", "B ", "á", "Ab", "a b", "Ä", "ß", "ss", "Z", "z2", "日本", "\U0010ffff", "long " * 40]
AGENTS = [None, "one", "two"]
STATUSES = ["idle", "running", "requires_action", "queued"]
MICROSECOND = timedelta(microseconds=1)
IN_FEW_EXAMPLES = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

moments = st.integers(-1, 6).map(lambda seconds: BEGINNING + timedelta(seconds=seconds))
filters = st.builds(
    ListingFilter,
    agent_id=st.sampled_from(AGENTS),
    title_contains=st.sampled_from([None, None, "a", "%"]),
    metadata=st.sampled_from([{}, {}, {"n": "1"}]),
    status=st.sampled_from([None, "idle", "running", "requires_action"]),
    active_after=st.none() | moments,
    active_before=st.none() | moments,
)


class Made(NamedTuple):
    """A conversation to make. Few different times give many ties."""

    title: str | None
    agent_id: str | None
    owner: str
    begins: int
    messages: int
    status: str
    number: int


conversations = st.builds(
    Made,
    title=st.sampled_from(TITLES),
    agent_id=st.sampled_from(AGENTS),
    owner=st.sampled_from(["alice", "alice", "alice", "bob"]),
    begins=st.integers(0, 2),
    messages=st.integers(0, 2),
    status=st.sampled_from(STATUSES),
    number=st.integers(1, 2),
)


def told(made: Made) -> Story:
    begins = BEGINNING + timedelta(seconds=made.begins)
    story = Story(
        owner=made.owner, begins=begins, title=made.title, agent_id=made.agent_id, metadata={"n": made.number}
    )
    for _ in range(made.messages):
        story.say()
    if made.status == "queued":
        story.queue()
    elif made.status != "idle":
        story.ask()
        if made.status == "requires_action":
            story.call_tools("add")
    return story


def expected(events: Sequence[ConversationEvent], owner: str | None, wanted: ListingFilter, sort: str) -> list[UUID]:
    """Return the ids that a listing has, computed in the simplest way."""
    found = [row for row in naive_listing(events) if not row["deleted"] and owner in (None, row["owner_id"])]
    found = [row for row in found if matches(row, wanted)]
    if sort == "title":
        found.sort(key=lambda row: (row["title_key"], row["conversation_id"]))
    else:
        found.sort(key=lambda row: (row[f"{sort}_at"], row["conversation_id"]), reverse=True)
    return [row["conversation_id"] for row in found]


def matches(row: Row, wanted: ListingFilter) -> bool:
    return (
        wanted.agent_id in (None, row["agent_id"])
        and wanted.status in (None, row["status"])
        and (wanted.active_after is None or row["active_at"] > wanted.active_after)
        and (wanted.active_before is None or row["active_at"] < wanted.active_before)
        and (wanted.title_contains is None or wanted.title_contains in (row["title"] or "").lower())
        and all(str(row["metadata"].get(key)) == value for key, value in wanted.metadata.items())
    )


async def read_pages(
    listing: Listing, owner: str | None, wanted: ListingFilter, sort: ListingSort, limit: int
) -> list[ConversationRow]:
    seen: list[ConversationRow] = []
    beyond: ListingPlace | None = None
    while page := await listing.page(owner, wanted, beyond, limit, sort):
        assert len(page) <= limit
        seen += page
        beyond = page[-1].place(sort)
    return seen


async def fill(store: Store, conninfo: str, events: Sequence[ConversationEvent]) -> None:
    """Replace the listing by the one of `events`."""
    rows(conninfo, "TRUNCATE listing_v3_1")
    async with await store.database.connect() as connection:
        for change in ListingProjection().changes(events):
            await connection.execute(change.statement, change.parameters)


@IN_FEW_EXAMPLES
@given(
    made=st.lists(conversations, max_size=14),
    wanted=filters,
    sort=st.sampled_from(SORTS),
    owner=st.sampled_from(["alice", "alice", None]),
    limit=st.integers(1, 5),
)
def test_pages_of_any_filter_and_order_equal_the_naive_list(
    prepared_url: str, made: list[Made], wanted: ListingFilter, sort: ListingSort, owner: str | None, limit: int
) -> None:
    async def read() -> list[UUID]:
        async with opened(prepared_url, listening=False) as store:
            await fill(store, prepared_url, events)
            return [row.id for row in await read_pages(Listing(store.database), owner, wanted, sort, limit)]

    events = [event for each in made for event in told(each).events]
    assert asyncio.run(read()) == expected(events, owner, wanted, sort)


@IN_FEW_EXAMPLES
@given(
    made=st.lists(conversations, min_size=4, max_size=12),
    changes=st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["say", "rename", "delete", "new"])), max_size=6),
    sort=st.sampled_from(SORTS),
    limit=st.integers(1, 3),
)
def test_pages_neither_skip_nor_repeat_what_does_not_change_meanwhile(
    prepared_url: str, made: list[Made], changes: list[tuple[int, str]], sort: ListingSort, limit: int
) -> None:
    async def read() -> list[UUID]:
        seen: list[UUID] = []
        pending = list(changes)
        async with opened(prepared_url, listening=False) as store:
            listing, beyond = Listing(store.database), None
            await fill(store, prepared_url, events)
            while page := await listing.page("alice", ListingFilter(), beyond, limit, sort):
                seen += [row.id for row in page]
                beyond = page[-1].place(sort)
                if pending:
                    change(*pending.pop())
                    await fill(store, prepared_url, [event for story in stories for event in story.events])
        return seen

    def change(number: int, kind: str) -> None:
        story = stories[number % len(made)]
        if kind == "new":
            stories.append(Story(begins=BEGINNING + timedelta(minutes=1), title="m"))
        elif not story.state.deleted:
            changed.add(story.id)
            {"say": story.say, "rename": lambda: story.rename(title="n"), "delete": story.delete}[kind]()

    stories = [told(each._replace(status="idle")) for each in made]
    events = [event for story in stories for event in story.events]
    changed: set[UUID] = set()
    before = expected(events, "alice", ListingFilter(), sort)
    seen = asyncio.run(read())
    assert [id_ for id_ in seen if id_ in before and id_ not in changed] == [
        id_ for id_ in before if id_ not in changed
    ]
    if sort == "created":
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("title", ["a10", "Ägypten", "apfel", "École", "strasse", "Straße", "Zebra", "中文", None]),
        ("created", [None, "中文", "Zebra", "Straße", "strasse", "École", "apfel", "Ägypten", "a10"]),
    ],
)
async def test_titles_are_in_the_order_that_people_expect(
    prepared_url: str, sort: ListingSort, found: list[str | None]
) -> None:
    titles = ["a10", "Ägypten", "apfel", "École", "strasse", "Straße", "Zebra", "中文", None]
    stories = [Story(title=title, begins=BEGINNING + timedelta(hours=n)) for n, title in enumerate(titles)]
    async with opened(prepared_url, listening=False) as store:
        await fill(store, prepared_url, [event for story in stories for event in story.events])
        seen = await read_pages(Listing(store.database), "alice", ListingFilter(), sort, 4)
    assert [row.title for row in seen] == found


async def test_times_are_exclusive(prepared_url: str) -> None:
    story = Story()
    story.say()
    last = story.events[-1].timestamp
    async with opened(prepared_url, listening=False) as store:
        await fill(store, prepared_url, story.events)
        listing = Listing(store.database)
        for at, after, before in [(last, 0, 0), (last - MICROSECOND, 1, 0), (last + MICROSECOND, 0, 1)]:
            assert len(await listing.page("alice", ListingFilter(active_after=at), None, 9)) == after
            assert len(await listing.page("alice", ListingFilter(active_before=at), None, 9)) == before


async def test_owned_yields_pages_of_what_was_there_at_the_beginning(
    prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.models.listing.OWNED_PAGE", 2)
    stories = [Story(agent_id="one") for _ in range(5)]
    others = [Story(agent_id="two"), Story(owner="bob", agent_id="one")]
    later = Story(agent_id="one", begins=BEGINNING + timedelta(minutes=1))
    events = [event for story in [*stories, *others] for event in story.events]
    deleted = stories[4].delete()
    pages: list[list[UUID]] = []
    async with opened(prepared_url, listening=False) as store:
        await fill(store, prepared_url, events)
        async for page in Listing(store.database).owned("alice", "one"):
            pages.append(page)
            await fill(store, prepared_url, [*events, *later.events, *deleted])
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {id_ for page in pages for id_ in page} == {story.id for story in stories}


class Explaining(Database):
    """A database that explains statements instead of running them."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.plans: list[dict[str, Any]] = []

    async def fetch(self, statement: Statement, parameters: Any = ()) -> list[TupleRow]:
        assert isinstance(statement, bytes)
        found = await super().fetch(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
        self.plans.append(found[0][0][0]["Plan"])
        return []


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for each in plan.get("Plans", ()) for node in nodes(each))]


def read_rows(node: dict[str, Any]) -> float:
    """Return the rows that a node has taken from its table or its children."""
    removed = sum(node.get(f"Rows Removed by {cause}", 0) for cause in ("Filter", "Index Recheck"))
    return (node["Actual Rows"] + removed) * node["Actual Loops"]


CONVERSATIONS, MOST_READ = 20_000, 2_500


@pytest.fixture
def large_listing(prepared_url: str) -> str:
    """A listing of 20,000 conversations of one owner, and some of others."""
    rows(
        prepared_url,
        "INSERT INTO listing_v3_1 (conversation_id, owner_id, agent_id, title, metadata, message_count, active_turn_id,"
        " created_at, updated_at, last_message_at, active_at, version, deleted, waiting, queued, title_key)"
        " SELECT gen_random_uuid(), CASE WHEN n <= %(count)s THEN 'alice' ELSE 'owner-' || n %% 50 END,"
        " CASE WHEN n %% 1000 = 0 THEN 'rare' ELSE 'agent-' || n %% 3 END, CASE WHEN n %% 10 > 0 THEN md5(n::text) END,"
        " '{}', 3, CASE WHEN n %% 100 < 2 THEN gen_random_uuid() END,"
        " %(begin)s + n * interval '1 minute', %(begin)s, NULL,"
        " %(begin)s + n * interval '1 minute' + n %% 97 * interval '1 hour', 4, n %% 50 = 7, n %% 100 = 1, '{}',"
        " CASE WHEN n %% 10 > 0 THEN md5(n::text) ELSE U&'\\+10FFFF' END"
        " FROM generate_series(1, %(count)s * 5 / 4) AS n",
        {"count": CONVERSATIONS, "begin": BEGINNING},  # pyright: ignore[reportArgumentType]
    )
    rows(prepared_url, "ANALYZE listing_v3_1")
    return prepared_url


def at(part: float) -> datetime:
    return BEGINNING + timedelta(minutes=part * CONVERSATIONS)


async def test_a_first_page_neither_reads_nor_sorts_the_whole_listing(large_listing: str) -> None:
    ranges = [(None, None), (at(0.5), None), (None, at(0.5)), (at(0.99), None), (None, at(0.01)), (at(0.4), at(0.5))]
    wanted = [
        ListingFilter(agent_id, None, {}, status, after, before)
        for agent_id in (None, "agent-1", "rare", "absent")
        for status in (None, "idle", "running", "requires_action")
        for after, before in ranges
    ]
    places = {"active": at(0.5), "created": at(0.5), "title": "8"}
    database = Explaining(large_listing)
    await database.open()
    try:
        listing = Listing(database)
        for sort in SORTS:
            for filter_ in wanted:
                for beyond in (None, ListingPlace(places[sort], UUID(int=0))):
                    await listing.page("alice", filter_, beyond, 21, sort)
                    found = nodes(database.plans[-1])
                    assert not any(node["Node Type"] == "Seq Scan" for node in found), (sort, filter_, found)
                    assert max(map(read_rows, found)) < MOST_READ, (sort, filter_, beyond, found)
    finally:
        await database.close()


async def test_a_first_page_of_all_owners_reads_an_index(large_listing: str) -> None:
    database = Explaining(large_listing)
    await database.open()
    try:
        await Listing(database).page(None, ListingFilter(), None, 21)
        found = nodes(database.plans[-1])
    finally:
        await database.close()
    assert max(map(read_rows, found)) < 100
    assert {node["Node Type"] for node in found} == {"Limit", "Index Scan"}
