"""Projections skip the types of a newer release and stop at its newer shapes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic_core import from_json

from domain.events import CONVERSATION_EVENTS, EVENT_TYPES, MessageAdded
from eventlog.mapper import new_row
from projections.catalog import PROJECTIONS
from projections.errors import ProjectionFailedError
from projections.projection import Projection
from projections.rebuild.builder import Builder
from projections.rebuild.catch_up import follow
from projections.rebuild.past import build_past
from projections.rebuild.rebuild import rebuild
from projections.rebuild.verify import verify
from tests.support.histories.builders import Story, one_of_each
from tests.support.histories.releases import store_row
from tests.support.naive_views.rows import in_order
from tests.support.rebuilding import caught_up, check_read_models, in_threads, opened_builder, read_models
from tests.support.store import PATIENCE_S, Store, rows, until

__all__ = ["in_threads"]
pytestmark = pytest.mark.usefixtures("impatient_engines", "prepared_url")
NAMES = {projection.name for projection in PROJECTIONS}


def projections_of(type_name: str) -> set[str]:
    """Return the names of the projections that use a type."""
    return {projection.name for projection in PROJECTIONS if EVENT_TYPES[type_name] in projection.types}


UNKNOWN_TYPE: tuple[str, dict[str, Any]] = ("MessageWhispered", {"words": "Psst"})
NEWER: dict[str, tuple[str, Any]] = {
    "a version": ("MessageAdded", {"class_version": 99, "words": "Psst"}),
    "a version that is not a number": ("MessageAdded", {"class_version": "two"}),
    "a shape": ("MessageAdded", {"words": "no message"}),
    "not an object": ("MessageAdded", ["Psst"]),
}
READS_MESSAGES = projections_of("MessageAdded")


async def build_whole_past(builder: Builder, projections: Sequence[Projection]) -> Any:
    """Build the read models as of the end of the log."""
    return await build_past(builder, projections, await builder.log.head(), "past")


BUILDING: dict[str, Callable[[Builder, Sequence[Projection]], Awaitable[Any]]] = {
    "rebuild": rebuild,
    "verify": verify,
    "a read model of the past": build_whole_past,
}


async def test_every_projection_skips_an_unknown_type(here: Store, prepared_url: str) -> None:
    story, other = Story(title="one"), Story(title="two")
    before = [*story.events, *story.say()]
    await here.append(before)
    store_row(prepared_url, story.say()[0], *UNKNOWN_TYPE)
    after = [*story.say(), *other.events]
    async with here.projecting(*PROJECTIONS) as progress:
        assert await progress.wait(await here.append(after), PATIENCE_S) == []
        after += other.say()
        head = await here.append(after[-1:])
        assert await progress.wait(head, PATIENCE_S) == []
        assert progress.stopped == set()
    check_read_models(prepared_url, [*before, *after])
    assert rows(prepared_url, "SELECT DISTINCT position, error FROM projections") == [(head, None)]


@pytest.mark.parametrize("building", BUILDING)
async def test_every_build_skips_an_unknown_type(here: Store, prepared_url: str, building: str) -> None:
    story, other = Story(), Story()
    known = [*story.events, *story.say()]
    await here.append(known)
    store_row(prepared_url, story.say()[0], *UNKNOWN_TYPE)
    known += [*story.say(), *other.events]
    await here.append(known[2:])
    await caught_up(here)
    async with opened_builder(prepared_url) as builder:
        done = await BUILDING[building](builder, PROJECTIONS)
    if building == "verify":
        assert [comparison.differing for comparison in done] == [0] * len(PROJECTIONS)
    check_read_models(prepared_url, known, *(["past"] if building == "a read model of the past" else []))


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("type_name", sorted(cls.TOPIC for cls in CONVERSATION_EVENTS))
async def test_a_type_may_be_unknown_at_any_place(here: Store, prepared_url: str, type_name: str) -> None:
    """A newer release may start a conversation, or end a turn, with another type."""
    for event in one_of_each():
        if type_name == event.TOPIC:
            store_row(prepared_url, event, "Other", {})
        else:
            await here.append([event])
    # The usage refuses turns of a conversation without an owner.
    projections = [each for each in PROJECTIONS if type_name != "ConversationStarted" or each.name != "usage"]
    async with here.projecting(*projections) as progress:
        assert await progress.wait(await here.log.head(), PATIENCE_S) == []
        assert progress.stopped == set()
    live = read_models(prepared_url)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, projections)
    rebuilt = read_models(prepared_url)
    assert {table: in_order(each) for table, each in rebuilt.items()} == {
        table: in_order(each) for table, each in live.items()
    }


@pytest.mark.parametrize("shape", NEWER)
async def test_a_newer_shape_stops_only_the_projections_that_use_its_type(
    here: Store, prepared_url: str, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    story, other = Story(title="one"), Story(title="two")
    known = [*story.events, *story.say(), *story.say()]
    last_known = await here.append(known)
    position = store_row(prepared_url, story.say()[0], *NEWER[shape])
    async with here.projecting(*PROJECTIONS) as progress:
        await here.append(other.events)
        await until(lambda: progress.stopped == READS_MESSAGES)
        head = await here.append(other.say())
        await until(lambda: set(progress.behind(head)) == READS_MESSAGES)
        assert progress.stopped == READS_MESSAGES
    assert (position, head) == (last_known + 1, position + 2)
    type_name, data = NEWER[shape]
    how = "cannot be read: ValidationError" if shape == "a shape" else "is unknown"
    error = f"{type_name} of conversation {story.id} is no object"
    if isinstance(data, dict):
        error = f"{type_name} version {data.get('class_version', 1)} of conversation {story.id} {how}"
    found = rows(prepared_url, "SELECT name, position, error_position, error FROM projections ORDER BY name")
    stopped = (last_known, position, f"UnknownEventError('{error}')")
    assert found == [(name, *(stopped if name in READS_MESSAGES else (head, None, None))) for name in sorted(NAMES)]
    assert f"stops at position {position}" in caplog.text
    assert error in caplog.text


@pytest.mark.parametrize("type_name", sorted(cls.TOPIC for cls in CONVERSATION_EVENTS))
async def test_each_type_in_a_newer_shape_stops_exactly_the_projections_that_use_it(
    here: Store, prepared_url: str, type_name: str
) -> None:
    story, other = Story(), Story()
    await here.append(story.events)
    store_row(prepared_url, story.say()[0], type_name, {"class_version": 99})
    head = await here.append(other.events)
    async with here.projecting(*PROJECTIONS) as progress:
        await until(lambda: progress.stopped == set(progress.behind(head)) == projections_of(type_name))


@pytest.mark.parametrize("shape", NEWER)
@pytest.mark.parametrize("building", BUILDING)
async def test_a_build_refuses_a_newer_shape_and_leaves_nothing_behind(
    here: Store, prepared_url: str, shape: str, building: str
) -> None:
    story, other = Story(), Story()
    await here.append(story.events)
    await caught_up(here)
    everything = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v') ORDER BY 1"
    builds = "SELECT name, version, build, state FROM projections ORDER BY 1, 2, 3"
    before = rows(prepared_url, everything), rows(prepared_url, builds)
    position = store_row(prepared_url, story.say()[0], *NEWER[shape])
    await here.append(other.events)
    rows(prepared_url, "UPDATE projections SET position = %s", [position + 1])
    refusal = f"at position {position}: .*{NEWER[shape][0]} (version|of)"
    async with opened_builder(prepared_url) as builder:
        with pytest.raises(ProjectionFailedError, match=refusal) as raised:
            await BUILDING[building](builder, [each for each in PROJECTIONS if each.name in READS_MESSAGES])
    assert raised.value.position == position
    assert (rows(prepared_url, everything), rows(prepared_url, builds)) == before
    assert rows(prepared_url, "SELECT 1 FROM rebuilds UNION ALL SELECT 1 FROM rebuild_parts") == []


@pytest.mark.usefixtures("in_threads")
async def test_a_projection_that_does_not_use_the_type_of_a_newer_shape_can_be_rebuilt(
    here: Store, prepared_url: str
) -> None:
    story = Story()
    await here.append(story.events)
    position = store_row(prepared_url, story.say()[0], *NEWER["a version"])
    for projection in PROJECTIONS:
        async with opened_builder(prepared_url) as builder:
            if projection.name not in READS_MESSAGES:
                await rebuild(builder, [projection])
                continue
            refusal = f"Projection {projection.name} .* at position {position}: "
            with pytest.raises(ProjectionFailedError, match=refusal):
                await rebuild(builder, [projection])


@pytest.mark.usefixtures("in_threads")
async def test_a_build_that_follows_the_log_stops_at_a_newer_shape(here: Store, prepared_url: str) -> None:
    story = Story()
    await here.append([*story.events, *story.say(), *story.say()])
    store_row(prepared_url, story.say()[0], *UNKNOWN_TYPE)
    position = store_row(prepared_url, story.say()[0], *NEWER["a version"])
    (listing,) = [projection for projection in PROJECTIONS if projection.name == "listing"]
    async with opened_builder(prepared_url) as builder:
        with pytest.raises(ProjectionFailedError, match=f"at position {position}: ") as raised:
            await follow(builder, listing, "live", position)
    assert raised.value.position == position
    assert rows(prepared_url, "SELECT position FROM projections WHERE name = 'listing'") == [(position - 1,)]


def learn_the_newer_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the next shape of messages to this process, as a newer release would."""

    def upcast(state: dict[str, Any]) -> None:
        """Change nothing."""

    today = MessageAdded.class_version
    monkeypatch.setattr(MessageAdded, "class_version", today + 1)
    monkeypatch.setattr(MessageAdded, f"upcast_v{today}_v{today + 1}", staticmethod(upcast), raising=False)


async def test_stopped_projections_continue_once_the_code_knows_the_shape(
    here: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(title="one")
    await here.append(story.events)
    (message,) = story.say("Psst")
    data = {**from_json(new_row(message).data), "class_version": MessageAdded.class_version + 1}
    position = store_row(prepared_url, message, "MessageAdded", data)
    async with here.projecting(*PROJECTIONS) as progress:
        head = await here.append(story.rename(title="two"))
        await until(lambda: progress.stopped == READS_MESSAGES)
    stopped = rows(prepared_url, "SELECT position, error_position FROM projections WHERE name = 'listing'")
    assert stopped == [(position - 1, position)]

    learn_the_newer_shape(monkeypatch)
    async with here.projecting(*PROJECTIONS) as progress:
        await until(lambda: not progress.behind(head))
    check_read_models(prepared_url, story.events)
    assert rows(prepared_url, "SELECT DISTINCT position, error, error_position FROM projections") == [
        (head, None, None)
    ]
