"""The images beside the log.

Each is stored once, by the SHA-256 of its bytes, and events refer to it.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from psycopg.rows import TupleRow
from pydantic_core import from_json, to_json

from domain.content import Content, ContentBlock, ImageBlock
from domain.errors import ContentPath
from domain.events import MessageAdded
from domain.images import check_image
from eventlog.clock import now
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import MissingImageError

LARGE_IMAGE_BYTES = 256 * 1024

T = TypeVar("T")

_SQL = load_statements("eventlog", "image_store.sql")
_REFERENCE = '"sha256"'


class ImageStore:
    """The images of a log. Every method may raise StoreUnavailableError.

    An image is stored before an event refers to it.
    """

    # The insert does not wait for the disk. The commit of the event does, and it comes later in the same WAL.

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, content: Content, message: ContentPath = ()) -> Content:
        """Store the images of `content` and return it with references to them.

        `message` is the path of the message among several, as for `check_content`.

        Raises:
            InvalidContentError: an image breaks a rule. Then none is stored.
            UnsupportedImageError: the bytes of an image do not match its type.
        """
        size = sum(len(block.data or "") for block in content if isinstance(block, ImageBlock))
        if not size:
            return content
        images = await _off_loop(size, lambda: _images(content, message))
        for image in {image.sha256: image for image in images.values()}.values():
            # One by one: two transactions that store the same images could deadlock.
            await self._database.fetch(_SQL["store_image"], {**image._asdict(), "kept_at": now()})
        return tuple(images[index].reference() if index in images else block for index, block in enumerate(content))

    async def restored_event(self, event: MessageAdded) -> MessageAdded:
        """Return the event with the bytes of its images in base64.

        Raises:
            MissingImageError: an image is not in the store.
        """
        return (await self.restored_events([event]))[0]

    async def restored_events(self, events: Sequence[MessageAdded]) -> list[MessageAdded]:
        """Return the events with the bytes of their images in base64.

        Raises:
            MissingImageError: an image is not in the store.
        """
        data = await self._read({digest for event in events for block in event.content if (digest := _digest(block))})
        return [_restored(event, data) if data else event for event in events]

    async def restored_texts(self, texts: Sequence[str]) -> list[str]:
        """Return JSON texts of content with the bytes of their images in base64.

        Raises:
            MissingImageError: an image is not in the store.
        """
        contents: dict[int, list[dict[str, Any]]] = {
            index: from_json(text) for index, text in enumerate(texts) if _REFERENCE in text
        }
        data = await self._read({block["sha256"] for content in contents.values() for block in _referring(content)})
        if not data:
            return list(texts)
        size = sum(map(len, data.values()))
        restored = await _off_loop(size, lambda: {n: _text(content, data) for n, content in contents.items()})
        return [restored.get(index, text) for index, text in enumerate(texts)]

    async def _read(self, digests: set[str]) -> dict[str, str]:
        """Return the images in base64, by the hexadecimal digits of their SHA-256."""
        if not digests:
            return {}
        rows = await self._database.fetch(_SQL["read_images"], {"digests": list(map(bytes.fromhex, digests))})
        if missing := digests - {row[0].hex() for row in rows}:
            raise MissingImageError(f"The image {min(missing)} is not in the store.")
        return await _off_loop(sum(len(row[1]) for row in rows), lambda: _encoded(rows))


class _Image(NamedTuple):
    sha256: bytes
    media_type: str | None
    data: bytes

    def reference(self) -> ImageBlock:
        """Return the block that refers to the image in an event."""
        return ImageBlock(media_type=self.media_type, sha256=self.sha256.hex())


async def _off_loop(size: int, work: Callable[[], T]) -> T:
    """Return the result of `work` on `size` bytes, in a thread if they are many."""
    # One MiB takes 4 ms, in which the event loop would stop.
    return await asyncio.to_thread(work) if size > LARGE_IMAGE_BYTES else work()


def _images(content: Content, message: ContentPath) -> dict[int, _Image]:
    """Return the images whose bytes are in `content`, by their indexes."""
    images: dict[int, _Image] = {}
    for index, block in enumerate(content):
        if isinstance(block, ImageBlock):
            path = (*message, "content", index)
            if data := check_image(block.media_type, block.data, block.url, block.sha256, path):
                images[index] = _Image(sha256(data).digest(), block.media_type, data)
    return images


def _encoded(rows: list[TupleRow]) -> dict[str, str]:
    """Return the images in base64 by their digests, and empty `rows`."""
    # Each row is dropped at once, so that only one image is in memory twice.
    data: dict[str, str] = {}
    while rows:
        digest, image = rows.pop()
        data[digest.hex()] = b64encode(image).decode()
    return data


def _digest(block: ContentBlock) -> str | None:
    return block.sha256 if isinstance(block, ImageBlock) else None


def _restored(event: MessageAdded, data: dict[str, str]) -> MessageAdded:
    content = [
        ImageBlock(media_type=block.media_type, data=data[block.sha256])
        if isinstance(block, ImageBlock) and block.sha256
        else block
        for block in event.content
    ]
    return event.model_copy(update={"content": tuple(content)})


def _referring(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [block for block in content if block["type"] == "image" and "sha256" in block]


def _text(content: list[dict[str, Any]], data: dict[str, str]) -> str:
    for block in _referring(content):
        block["data"] = data[block.pop("sha256")]
    return to_json(content).decode()
