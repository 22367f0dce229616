"""Events evolve: what a later release stored stops the read models before it, and is refused by what builds them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from domain.events import MessageAdded
from eventlog import mapper
from projections.building import Builder
from projections.catalog import PROJECTIONS
from projections.errors import ProjectionFailedError
from projections.past import build_past
from projections.rebuild import rebuild
from tests.support.builders import Story, some_id
from tests.support.rebuilding import caught_up, check_read_models, in_threads, opened_builder
from tests.support.releases import store_row
from tests.support.store import PATIENCE_S, Store, rows, until, value

__all__ = ["in_threads"]
pytestmark = pytest.mark.usefixtures("impatient_engines", "prepared_url")
NAMES = {projection.name for projection in PROJECTIONS}
UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "a type": ("MessageWhispered", {"words": "Psst"}),
    "a version": ("MessageAdded", {"class_version": 99, "words": "Psst"}),
    "a version that is no number": ("MessageAdded", {"class_version": "two"}),
    "a shape": ("MessageAdded", {"words": "no message"}),
}
REFUSING: dict[str, Callable[[Builder], Awaitable[Any]]] = {
    "rebuild": lambda builder: rebuild(builder, PROJECTIONS),
    "a read model of the past": lambda builder: build_past(builder, PROJECTIONS, 10**6, "past"),
}


@pytest.mark.parametrize("unknown", UNKNOWN)
async def test_what_the_code_does_not_know_stops_every_projection_before_it_and_recording_goes_on(
    here: Store, prepared_url: str, unknown: str, caplog: pytest.LogCaptureFixture
) -> None:
    story, other = Story(title="one"), Story(title="two")
    known = [*story.events, *story.say(), *story.say()]
    last_known = await here.append(known)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN[unknown])
    async with here.projecting(*PROJECTIONS) as progress:
        head = await here.append(other.events)
        await until(lambda: progress.stopped == NAMES)
        assert set(await progress.wait(head, PATIENCE_S)) == NAMES
        head = await here.append(other.say())
    assert (position, head) == (last_known + 1, position + 2)
    check_read_models(prepared_url, known)
    type_name, data = UNKNOWN[unknown]
    how = "cannot be read: ValidationError" if unknown == "a shape" else "is unknown"
    error = f"{type_name} version {data.get('class_version', 1)} of conversation {story.id} {how}"
    found = rows(prepared_url, "SELECT name, position, error_position, error FROM projections ORDER BY name")
    assert found == [(name, last_known, position, f"UnknownEventError('{error}')") for name in sorted(NAMES)]
    assert f"stops at position {position}" in caplog.text
    assert error in caplog.text


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("refusing", REFUSING)
async def test_what_the_code_does_not_know_is_refused_by_what_builds_and_nothing_is_left_behind(
    here: Store, prepared_url: str, unknown: str, refusing: str
) -> None:
    story, other = Story(), Story()
    await here.append(story.events)
    await caught_up(here)
    everything = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v') ORDER BY 1"
    builds = "SELECT name, version, build, state FROM projections ORDER BY 1, 2, 3"
    before = rows(prepared_url, everything), rows(prepared_url, builds)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN[unknown])
    await here.append(other.events)
    refusal = f"at position {position}: {UNKNOWN[unknown][0]} version"
    async with opened_builder(prepared_url) as builder:
        with pytest.raises(ProjectionFailedError, match=refusal) as raised:
            await REFUSING[refusing](builder)
    assert raised.value.position == position
    assert (rows(prepared_url, everything), rows(prepared_url, builds)) == before
    assert rows(prepared_url, "SELECT 1 FROM rebuilds UNION ALL SELECT 1 FROM rebuild_parts") == []


@pytest.mark.usefixtures("in_threads")
async def test_each_projection_refuses_an_unknown_type_when_it_is_built_alone(here: Store, prepared_url: str) -> None:
    story = Story()
    await here.append(story.events)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN["a type"])
    for projection in PROJECTIONS:
        refusal = f"Projection {projection.name} .* at position {position}: "
        async with opened_builder(prepared_url) as builder:
            with pytest.raises(ProjectionFailedError, match=refusal):
                await rebuild(builder, [projection])


def learn_to_whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know the type as a later release would, which reads it as a message."""

    def upcast(state: dict[str, Any]) -> None:
        state |= {"content": [{"type": "text", "text": state.pop("words")}], "message_id": some_id()}
        state |= {"role": "user", "tokens": 1, "encoding": "words"}

    monkeypatch.setitem(mapper._STORABLE, "MessageWhispered", MessageAdded)  # pyright: ignore[reportPrivateUsage]
    today = MessageAdded.class_version
    monkeypatch.setattr(MessageAdded, "class_version", today + 1)
    monkeypatch.setattr(MessageAdded, f"upcast_v{today}_v{today + 1}", staticmethod(upcast), raising=False)


async def test_stopped_projections_go_on_from_there_once_the_code_knows_the_type(
    here: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(title="one")
    await here.append(story.events)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN["a type"])
    async with here.projecting(*PROJECTIONS) as progress:
        head = await here.append(story.rename(title="two"))
        await until(lambda: progress.stopped == NAMES)
    stopped = rows(prepared_url, "SELECT DISTINCT position, error_position FROM projections")
    assert stopped == [(position - 1, position)]

    learn_to_whisper(monkeypatch)
    async with here.projecting(*PROJECTIONS) as progress:
        await until(lambda: not progress.behind(head))
    assert rows(prepared_url, "SELECT title, message_count FROM listing") == [("two", 1)]
    said = value(prepared_url, "SELECT content FROM history")
    assert said == [{"type": "text", "text": "Psst"}]
    assert rows(prepared_url, "SELECT DISTINCT position, error, error_position FROM projections") == [
        (head, None, None)
    ]
