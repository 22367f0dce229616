"""A server builds the new projections of its release and retries failures."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from domain.events import ConversationEvent
from projections.catalog import PROJECTIONS, install
from projections.rebuild import jobs
from tests.support.histories.builders import Story
from tests.support.http import plain_http
from tests.support.http.api_client import Api
from tests.support.servers.serving import ServedApp
from tests.support.store import PATIENCE_S, opened, plant, rows
from tests.support.waiting import eventually

OLDER = [projection for projection in PROJECTIONS if projection.name != "usage"]

MEND = """
UPDATE events SET version = 3, aggregate_id = (SELECT aggregate_id FROM events WHERE position = 1)
WHERE position = 3
"""


def upgraded_log(conninfo: str, events: list[ConversationEvent]) -> None:
    """Record `events` as a release without the usage projection."""
    install(conninfo, projections=OLDER)

    async def append() -> None:
        async with opened(conninfo) as store, store.projecting(*OLDER) as progress:
            assert await progress.wait(await store.append(events), PATIENCE_S) == []

    asyncio.run(append())


def poison() -> list[ConversationEvent]:
    """Return a turn of a conversation that never started, which the usage refuses."""
    return Story().ask()[1:]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RETRY_S", 0.05)


@pytest.fixture
def api(database_url: str, request: pytest.FixtureRequest) -> Iterator[Api]:
    """A server of today's release on a log of the previous one."""
    story = Story()
    upgraded_log(database_url, [*story.events, *story.say()])
    if request.param:
        plant(database_url, poison())
    with ServedApp(database_url) as served, plain_http.Client(base_url=served.url, timeout=30) as http:
        yield Api(http)


def usage(api: Api) -> dict[str, Any]:
    return api.get("/v1/projections/usage")


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("api", [False], indirect=True)
def test_a_new_projection_is_built_at_the_start_of_the_release(api: Api, database_url: str) -> None:
    eventually(lambda: usage(api)["status"] == "running")
    assert rows(database_url, "SELECT count(*) FROM usage_conversations") == [(1,)]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("api", [True], indirect=True)
def test_a_failed_first_build_is_reported_retried_and_delays_no_read(api: Api, database_url: str) -> None:
    eventually(lambda: usage(api)["status"] == "stopped")
    assert usage(api)["error"]["position"] == 3
    assert api.get("/readyz")["projections"]["usage"]["stopped"]
    assert 'turnlog_projection_stopped{projection="usage"} 1.0' in api.http.get("/metrics").text
    written = api.http.post("/v1/conversations", json={})
    assert written.headers["turnlog-behind"] == "usage"
    position = {"Turnlog-Position": written.headers["turnlog-position"]}
    assert api.http.get("/v1/conversations", headers=position).status_code == 200

    # An operator may know that the turn belongs to the conversation that did start.
    rows(database_url, "ALTER TABLE events DISABLE TRIGGER events_append_only")
    rows(database_url, MEND)
    eventually(lambda: usage(api)["status"] == "running")
