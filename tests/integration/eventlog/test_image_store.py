"""Images are stored once, referenced by events and returned byte for byte."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from threading import current_thread, main_thread
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import TupleRow
from pydantic_core import from_json, to_json

from commands.commands import ClientMessage
from domain.content import Content, ContextBlock, ImageBlock, TextBlock
from domain.errors import InvalidContentError, UnsupportedImageError
from domain.events import MessageAdded
from eventlog import image_store
from eventlog.db.database import Database, Statement
from eventlog.errors import MissingImageError
from eventlog.image_store import LARGE_IMAGE_BYTES, ImageStore
from projections.catalog import install
from projections.models.history import History, HistoryProjection
from tests.support.histories.builders import BEGINNING, Story
from tests.support.store import ALICE, PATIENCE_S, Store, blocked_backend, opened, rows, value

GIF = b"GIF89a"
TEXT = TextBlock(text='not a "sha256"')
LINK = ImageBlock(url="https://example.org/cat.png")


def image(more: bytes = b"") -> ImageBlock:
    return ImageBlock(media_type="image/gif", data=b64encode(GIF + more).decode())


def reference(more: bytes = b"") -> ImageBlock:
    return ImageBlock(media_type="image/gif", sha256=sha256(GIF + more).hexdigest())


def message_with(content: Content) -> MessageAdded:
    """Return a `MessageAdded` event with this content."""
    (event,) = Story().say(content=content)
    assert isinstance(event, MessageAdded)
    return event


def count(database_url: str) -> int:
    return value(database_url, "SELECT count(*) FROM images")


class CountingDatabase(Database):
    """Counts its queries."""

    queries = 0

    async def fetch(self, statement: Statement, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[TupleRow]:
        self.queries += 1
        return await super().fetch(statement, parameters)


@pytest.fixture
def _installed(database_url: str) -> None:
    """The tables of all projections."""
    install(database_url)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with opened(database_url, listening=False) as store:
        yield store


@pytest.fixture
async def images(database_url: str) -> AsyncIterator[ImageStore]:
    database = Database(database_url)
    await database.open()
    yield ImageStore(database)
    await database.close()


async def test_an_image_that_is_sent_three_times_is_stored_once(store: Store, database_url: str) -> None:
    message = ClientMessage("user", (TEXT, image()))
    started = await store.commands.start(ALICE, messages=[message, message])
    other = await store.commands.start(ALICE)
    await store.commands.add_message(ALICE, other.state.id, message)
    ((digest, media_type, data, kept_at),) = rows(database_url, "SELECT sha256, media_type, data, kept_at FROM images")
    assert (digest, media_type, data) == (sha256(GIF).digest(), "image/gif", GIF)
    assert kept_at <= started.events[0].timestamp
    contents = rows(database_url, "SELECT data -> 'content' FROM events WHERE type = 'MessageAdded'")
    stored = {"type": "image", "media_type": "image/gif", "sha256": sha256(GIF).hexdigest()}
    assert contents == [([{"type": "text", "text": TEXT.text}, stored],)] * 3


async def test_stored_images_are_restored_in_their_places(images: ImageStore) -> None:
    sent = (TEXT, image(b"1"), LINK, image(b"2"), image(b"1"))
    kept = await images.store(sent)
    assert kept == (TEXT, reference(b"1"), LINK, reference(b"2"), reference(b"1"))
    assert (await images.restored_event(message_with(kept))).content == sent


async def test_any_bytes_are_returned_as_the_same_base64(images: ImageStore) -> None:
    contents: list[Content] = []

    @settings(max_examples=50, database=None)
    @given(st.lists(st.binary(max_size=9), max_size=4))
    def collect(endings: list[bytes]) -> None:
        contents.append(tuple(map(image, endings)))

    collect()
    kept = [await images.store(content) for content in contents]
    restored = await images.restored_events([message_with((*content, TEXT)) for content in kept])
    assert [event.content for event in restored] == [(*content, TEXT) for content in contents]
    texts = await images.restored_texts([to_json(content).decode() for content in kept])
    assert texts == [to_json(content).decode() for content in contents]


async def test_content_without_images_is_unchanged_and_costs_no_query(database_url: str) -> None:
    database = CountingDatabase(database_url)
    content: Content = (TEXT, LINK, ContextBlock(data={"sha256": "abc", "type": "image"}))
    event, text = message_with(content), to_json(content).decode()
    images = ImageStore(database)
    assert await images.store(content) is content
    assert (await images.restored_event(event)) is event
    assert (await images.restored_texts([text]))[0] is text
    assert database.queries == 0


async def test_the_images_of_many_messages_are_read_in_one_query(database_url: str) -> None:
    database = CountingDatabase(database_url)
    await database.open()
    images = ImageStore(database)
    contents = [await images.store((image(bytes([n % 3])), TEXT)) for n in range(9)]
    texts = [to_json(content).decode() for content in contents]
    database.queries = 0
    assert all('"data"' in text for text in await images.restored_texts(texts))
    restored = await images.restored_events(list(map(message_with, contents)))
    assert [event.content for event in restored] == [(image(bytes([n % 3])), TEXT) for n in range(9)]
    assert database.queries == 2
    await database.close()


async def test_a_stored_image_is_not_stored_again(images: ImageStore, database_url: str) -> None:
    kept = await images.store((image(),))
    before = rows(database_url, "SELECT * FROM images")
    assert await images.store(kept) == kept
    assert await images.store((image(),)) == kept
    assert rows(database_url, "SELECT * FROM images") == before


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (ImageBlock(media_type="image/png", data=b64encode(GIF).decode()), UnsupportedImageError),
        (ImageBlock(media_type="image/gif", data=""), UnsupportedImageError),
        (ImageBlock(media_type="image/gif", data="R0lGODlh\n"), UnsupportedImageError),
        (ImageBlock(data=b64encode(GIF).decode()), InvalidContentError),
        (ImageBlock(url="ftp://x"), InvalidContentError),
    ],
)
async def test_content_with_an_invalid_image_stores_nothing(
    images: ImageStore, database_url: str, wrong: ImageBlock, error: type[Exception]
) -> None:
    with pytest.raises(error) as refusal:
        await images.store((image(), wrong), ("messages", 3))
    if isinstance(refusal.value, InvalidContentError):
        assert refusal.value.path[:4] == ("messages", 3, "content", 1)
    assert count(database_url) == 0


async def test_an_image_in_a_role_without_images_is_refused_and_not_stored(store: Store, database_url: str) -> None:
    with pytest.raises(InvalidContentError) as refusal:
        await store.commands.start(
            ALICE, messages=[ClientMessage("user", (TEXT,)), ClientMessage("system", (image(),))]
        )
    assert refusal.value.path == ("messages", 1, "content", 0, "type")
    assert count(database_url) == 0


async def test_processes_that_store_the_same_images_concurrently_store_each_once(database_url: str) -> None:
    contents = [(image(b"1"), image(b"2"), image(b"3")), (image(b"3"), image(b"2"), image(b"1"))]
    async with opened(database_url, listening=False) as one, opened(database_url, listening=False) as other:
        work = [
            store.commands.start(ALICE, messages=[ClientMessage("user", content)])
            for _ in range(8)
            for store in (one, other)
            for content in contents
        ]
        await asyncio.gather(*work)
    assert count(database_url) == 3
    assert value(database_url, "SELECT count(*) FROM events WHERE type = 'MessageAdded'") == 32


async def test_waiting_for_an_image_of_another_process_blocks_no_other_work(
    images: ImageStore, database_url: str
) -> None:
    with psycopg.connect(database_url, options="-c search_path=turnlog") as other:
        digest = sha256(GIF + b"2").digest()
        other.execute("INSERT INTO images VALUES (%s, 'image/gif', %s, %s)", [digest, GIF + b"2", BEGINNING])
        waiting = asyncio.ensure_future(images.store((image(b"1"), image(b"2"))))
        await blocked_backend(database_url)
        async with asyncio.timeout(PATIENCE_S):
            await images.store((image(b"1"),))
        other.rollback()
        assert await waiting == (reference(b"1"), reference(b"2"))
    assert count(database_url) == 2


async def test_a_removed_image_is_reported_as_missing(images: ImageStore, database_url: str) -> None:
    kept = await images.store((image(),))
    rows(database_url, "DELETE FROM images")
    with pytest.raises(MissingImageError, match=sha256(GIF).hexdigest()):
        await images.restored_event(message_with(kept))
    with pytest.raises(MissingImageError):
        await images.restored_texts([to_json(kept).decode()])


@pytest.mark.usefixtures("_installed")
async def test_the_history_restores_the_images_of_its_rows(store: Store, database_url: str) -> None:
    async with store.projecting(HistoryProjection()) as progress:
        committed = await store.commands.start(ALICE, messages=[ClientMessage("user", (TEXT, image()))])
        assert await progress.wait(committed.position or 0, PATIENCE_S) == []
    id_, (_, message_added) = committed.state.id, committed.events
    assert isinstance(message_added, MessageAdded)
    history = History(store.database)
    one = await history.message(id_, message_added.message_id)
    assert one
    assert from_json(one.content) == from_json(to_json((TEXT, image())))
    assert await history.page(id_, descending=False, superseded=False, beyond=None, limit=9) == [one]
    raw = value(database_url, "SELECT content FROM history")
    assert raw[1].keys() == {"type", "media_type", "sha256"}


async def test_a_large_image_is_stored_and_restored_without_blocking_the_event_loop(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beside(work: Callable[..., Any], *arguments: Any) -> Any:
        assert current_thread() is not main_thread(), "the event loop stands still"
        return work(*arguments)

    for name in ("check_image", "b64encode", "to_json"):
        monkeypatch.setattr(image_store, name, partial(beside, getattr(image_store, name)))
    large = image(bytes(LARGE_IMAGE_BYTES))
    kept = await images.store((large,))
    assert (await images.restored_event(message_with(kept))).content == (large,)
    (text,) = await images.restored_texts([to_json(kept).decode()])
    assert from_json(text)[0]["data"] == large.data


async def test_an_image_of_7_mib_is_returned_byte_for_byte(images: ImageStore, database_url: str) -> None:
    large = image(bytes(range(256)) * (7 * 4096))
    kept = await images.store((large,))
    assert value(database_url, "SELECT length(data) FROM images") == 7 * 1024 * 1024 + len(GIF)
    assert (await images.restored_event(message_with(kept))).content == (large,)
