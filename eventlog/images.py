"""The images beside the log: each is kept once by the SHA-256 of its bytes, and the blocks of events refer to it."""

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

_SQL = load_statements("eventlog", "images.sql")
_REFERENCE = '"sha256"'


class Images:
    """The images of a log. Every method may raise StoreUnavailableError.

    An image is in its table before an event refers to it. The insert does not wait for the disk; the commit of the
    event does, later in the same WAL.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, content: Content, message: ContentPath = ()) -> Content:
        """Return `content` with references to its images, which are kept from now on.

        `message` is the path of the message among several, as for `check_content`.

        Raises:
            InvalidContentError: an image breaks a rule; then none is kept.
            UnsupportedImageError: an image's bytes are not what they claim.
        """
        size = sum(len(block.data or "") for block in content if isinstance(block, ImageBlock))
        if not size:
            return content
        images = await _beside_the_loop(size, lambda: _images(content, message))
        for image in {image.sha256: image for image in images.values()}.values():
            # One by one: two that keep the same images in one transaction each could wait for each other.
            await self._database.fetch(_SQL["keep"], {**image._asdict(), "kept_at": now()})
        return tuple(images[place].reference() if place in images else block for place, block in enumerate(content))

    async def restored_event(self, event: MessageAdded) -> MessageAdded:
        """Return the event with the bytes of its images.

        Raises:
            MissingImageError: an image is not there.
        """
        return (await self.restored_events([event]))[0]

    async def restored_events(self, events: Sequence[MessageAdded]) -> list[MessageAdded]:
        """Return the events with the bytes of their images.

        Raises:
            MissingImageError: an image is not there.
        """
        data = await self._read({digest for event in events for block in event.content if (digest := _digest(block))})
        return [_restored(event, data) if data else event for event in events]

    async def restored_texts(self, texts: Sequence[str]) -> list[str]:
        """Return content as JSON text with the bytes of its images.

        Raises:
            MissingImageError: an image is not there.
        """
        contents: dict[int, list[dict[str, Any]]] = {
            place: from_json(text) for place, text in enumerate(texts) if _REFERENCE in text
        }
        data = await self._read({block["sha256"] for content in contents.values() for block in _referring(content)})
        if not data:
            return list(texts)
        size = sum(map(len, data.values()))
        restored = await _beside_the_loop(size, lambda: {n: _text(content, data) for n, content in contents.items()})
        return [restored.get(place, text) for place, text in enumerate(texts)]

    async def _read(self, digests: set[str]) -> dict[str, str]:
        """Return the base64 of images by the hex digits of their SHA-256."""
        if not digests:
            return {}
        rows = await self._database.fetch(_SQL["read_images"], {"digests": list(map(bytes.fromhex, digests))})
        if missing := digests - {row[0].hex() for row in rows}:
            raise MissingImageError(f"The image {min(missing)} is not in the store.")
        return await _beside_the_loop(sum(len(row[1]) for row in rows), lambda: _encoded(rows))


class _Image(NamedTuple):
    sha256: bytes
    media_type: str | None
    data: bytes

    def reference(self) -> ImageBlock:
        """Return the block that stands for the image in an event."""
        return ImageBlock(media_type=self.media_type, sha256=self.sha256.hex())


async def _beside_the_loop(size: int, work: Callable[[], T]) -> T:
    """Return what `work` on so many bytes returns: a MiB takes 4 ms, so the event loop goes on while it is done."""
    return await asyncio.to_thread(work) if size > LARGE_IMAGE_BYTES else work()


def _images(content: Content, message: ContentPath) -> dict[int, _Image]:
    """Return the images whose bytes are in `content`, by their places."""
    images: dict[int, _Image] = {}
    for place, block in enumerate(content):
        if isinstance(block, ImageBlock):
            path = (*message, "content", place)
            if data := check_image(block.media_type, block.data, block.url, block.sha256, path):
                images[place] = _Image(sha256(data).digest(), block.media_type, data)
    return images


def _encoded(rows: list[TupleRow]) -> dict[str, str]:
    """Return base64 by digest; takes the rows away as it goes, so that no more than one image is there twice."""
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
