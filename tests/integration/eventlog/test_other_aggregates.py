"""Events of an aggregate that this release does not know pass by."""

from collections.abc import Awaitable, Callable
from typing import Any, LiteralString
from uuid import UUID

import pytest

from cli.reading.event_lines import event_line
from domain.errors import ConversationNotFoundError
from domain.events import EVENT_TYPES
from eventlog.log import FeedFilter
from eventlog.log_search import EventFilter, LogSearch
from eventlog.mapper import UnknownEvent
from projections.catalog import PROJECTIONS
from projections.rebuild.rebuild import rebuild
from projections.rebuild.verify import verify
from tests.support.histories.builders import Story
from tests.support.histories.releases import store_row
from tests.support.rebuilding import caught_up, check_read_models, in_threads, opened_builder
from tests.support.store import ALICE, PATIENCE_S, Store, rows, value

__all__ = ["in_threads"]
pytestmark = pytest.mark.usefixtures("prepared_url")
BUILDING: dict[str, Callable[..., Awaitable[Any]]] = {"rebuild": rebuild, "verify": verify}


@pytest.fixture
def widget(prepared_url: str) -> Callable[[], UUID]:
    """Record two events of an aggregate of a newer release, and return its id.

    The second has the name of a conversation's event.
    """
    rows(prepared_url, "ALTER TYPE aggregate_kind ADD VALUE 'widget'")

    def record() -> UUID:
        story = Story()
        made, changed = story.events[0], story.say()[0]
        data = {"owner_id": "alice", "agent_id": None, "title": "no conversation"}
        store_row(prepared_url, made, "WidgetMade", data, "widget")
        store_row(prepared_url, changed, "MessageAdded", {"size": 2}, "widget")
        return story.id

    return record


async def test_projections_pass_them(here: Store, prepared_url: str, widget: Callable[[], UUID]) -> None:
    story = Story()
    await here.append([*story.events, *story.say()])
    widget()
    async with here.projecting(*PROJECTIONS) as progress:
        assert await progress.wait(await here.append(story.say()), PATIENCE_S) == []
        widget()
        head = await here.append(story.say())
        assert await progress.wait(head, PATIENCE_S) == []
    check_read_models(prepared_url, story.events)
    assert rows(prepared_url, "SELECT DISTINCT position, error FROM projections") == [(head, None)]


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("building", BUILDING)
async def test_builds_pass_them(here: Store, prepared_url: str, widget: Callable[[], UUID], building: str) -> None:
    first, second = Story(), Story()
    await here.append([*first.events, *first.ask("Why so?"), *first.stream("Be", "cause")])
    widget()
    await here.append([*second.events, *second.say()])
    widget()
    await caught_up(here)
    async with opened_builder(prepared_url) as builder:
        await BUILDING[building](builder, PROJECTIONS)
    check_read_models(prepared_url, [*first.events, *second.events])


async def test_feeds_of_conversations_leave_them_out_and_continue(here: Store, widget: Callable[[], UUID]) -> None:
    story = Story()
    await here.append(story.events)
    id_ = widget()
    await here.append(story.say())
    for found, position in (
        await here.log.section_records(0, 4),
        await here.log.feed_records(FeedFilter("alice"), 0, 4),
    ):
        records = [each[0] if isinstance(each, tuple) else each for each in found]
        assert ([record["position"] for record in records], position) == ([1, 4], 4)
    assert await here.log.section_records(1, 3) == ([], 3)
    assert await here.log.feed_records(FeedFilter("alice"), 1, 3) == ([], 3)
    _, made, changed, _ = [item.event for item in await here.log.after(0, 10)]
    for event, name in ((made, "WidgetMade"), (changed, "MessageAdded")):
        assert isinstance(event, UnknownEvent)
        assert (event.aggregate, event.stored_type, event.known_type) == ("widget", name, None)
        assert event.originator_id == id_


async def test_a_command_on_one_finds_no_conversation(here: Store, widget: Callable[[], UUID]) -> None:
    id_ = widget()
    with pytest.raises(ConversationNotFoundError):
        await here.conversations.state(id_)
    with pytest.raises(ConversationNotFoundError):
        await here.commands.update(ALICE, id_, {"title": "New"})


async def test_the_log_shows_them_with_their_aggregate(here: Store, widget: Callable[[], UUID]) -> None:
    story = Story()
    await here.append(story.events)
    id_ = widget()
    search = LogSearch(here.database)
    started, made, changed = (await search.in_log(EventFilter(), None, 10)).records
    assert (started["conversation_id"], "aggregate" in started, "aggregate_id" in started) == (story.id, False, False)
    found = await search.in_conversation(id_, EventFilter(), None, 10)
    assert [record["version"] for record in found.records] == [1, 2]
    for record in (made, changed):
        assert (record["aggregate"], record["aggregate_id"], "conversation_id" in record) == ("widget", id_, False)
        assert str(id_) in event_line(record, None)


def test_the_digest_covers_the_aggregate(database_url: str) -> None:
    digest: LiteralString = "event_digest(1, %s, %s::uuid, 1, 'Made', '{}', 'system', NULL, '2026-01-02', '', NULL)"
    of_both = [each for kind in ("conversation", "agent") for each in (kind, UUID(int=1))]
    found = rows(database_url, f"SELECT {digest}, {digest}", of_both)
    assert found[0][0] != found[0][1]


def test_the_database_knows_the_aggregate_of_every_event(database_url: str) -> None:
    known = value(database_url, "SELECT enum_range(NULL::aggregate_kind)::text[]")
    assert {cls.AGGREGATE for cls in EVENT_TYPES.values()} <= set(known)
