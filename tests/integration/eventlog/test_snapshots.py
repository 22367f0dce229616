"""Snapshots beside the log have versions like events. An unusable one is ignored."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.conversation import ConversationSnapshot
from tests.support.histories.builders import Story
from tests.support.store import Store, opened, rows


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url) as store:
        yield store


async def test_a_snapshot_of_a_later_shape_has_its_version(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def upcast(state: dict[str, Any]) -> None:
        state["state"]["owner_id"] = state["state"].pop("owner")

    today = ConversationSnapshot.class_version
    monkeypatch.setattr(ConversationSnapshot, "class_version", today + 1)
    monkeypatch.setattr(ConversationSnapshot, f"upcast_v{today}_v{today + 1}", staticmethod(upcast), raising=False)
    story = Story()
    await store.append(story.events)
    await store.log.write_snapshot(story.state)
    assert await store.log.state(story.id) == story.state


async def test_a_snapshot_of_a_newer_release_is_ignored(store: Store, database_url: str) -> None:
    story = Story()
    await store.append(story.events)
    insert = "INSERT INTO snapshots VALUES (%s, 1, 'conversation', 'ConversationSnapshot', %s::jsonb)"
    rows(database_url, insert, [story.id, '{"class_version": 99, "state": {}}'])
    assert await store.log.state(story.id) == story.state
