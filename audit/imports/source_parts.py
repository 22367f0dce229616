"""The parts of an exported message: texts, images, tool calls and results."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import orjson

from audit.imports.fields import JsonMap
from audit.imports.imported_conversation import ImageReference
from domain.content import MAX_TEXT_BYTES, ContextBlock, ImageBlock, ReasoningBlock, TextBlock, is_blank
from domain.images import MAX_URL_CHARACTERS, sniff_media_type

_DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_CUT = "\n[The rest was left out at the import.]"


@dataclass(frozen=True, slots=True)
class SourceCall:
    """A tool call, with an id if the source has one."""

    id: str | None
    name: str | None
    input: JsonMap


@dataclass(frozen=True, slots=True)
class SourceResult:
    """The result of a tool call, with the call's id and the tool's name if known."""

    call_id: str | None
    name: str | None
    text: str
    is_error: bool = False


SourcePart = TextBlock | ReasoningBlock | ContextBlock | ImageBlock | ImageReference | SourceCall | SourceResult


def texts(text: str | None) -> Iterator[TextBlock]:
    """Yield a text as blocks that are short enough, and none for a blank text."""
    if text is not None and not is_blank(text):
        yield from (TextBlock(text=piece) for piece in _pieces(text))


def reasoning(text: str | None) -> Iterator[ReasoningBlock]:
    """Yield reasoning as blocks that are short enough, and none for a blank text."""
    if text is not None and not is_blank(text):
        yield from (ReasoningBlock(text=piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces of at most 1 MiB, cut between lines if possible."""
    if len(text) * 4 <= MAX_TEXT_BYTES:
        yield text
        return
    start = 0
    while start < len(text):
        piece = text[start : start + MAX_TEXT_BYTES].encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
        start += len(piece)
        # Readers join the blocks of a message with line breaks.
        if start < len(text) and (last_line := piece.rfind("\n")) > 0:
            start -= len(piece) - last_line - 1
            piece = piece[:last_line]
        yield piece


def result_text(text: str) -> str:
    """Return the text of a tool's result, cut to the length that a result may have."""
    if len(text) * 4 <= MAX_TEXT_BYTES:
        return text
    encoded = text[:MAX_TEXT_BYTES].encode()
    if len(encoded) <= MAX_TEXT_BYTES and len(text) <= MAX_TEXT_BYTES:
        return text
    return encoded[: MAX_TEXT_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def attached_text(name: str, media_type: str | None, text: str) -> ContextBlock:
    """Return the text of an attached file, which is for the model and was not said."""
    return ContextBlock(data={"file_name": name, "media_type": media_type, "text": text})


def image(url: str, name: str | None = None) -> ImageBlock | ImageReference | None:
    """Return an image by its address, or None if it is of a kind that no model takes.

    The bytes of a `data:` address become part of the block. An address that is neither that nor http is a reference.
    """
    if data := _DATA_URL.match(url):
        return _image_of_base64(url[data.end() :])
    if url.startswith(("https://", "http://")) and len(url) <= MAX_URL_CHARACTERS:
        return ImageBlock(url=url)
    return None if url[:5].lower() == "data:" else ImageReference(reference=url, name=name)


def image_of_bytes(data: bytes) -> ImageBlock | None:
    """Return an image, or None if it is of a kind that no model takes."""
    # Some programs declare image/jpg, or the type of the file's name. The bytes tell the type.
    media_type = sniff_media_type(data)
    return ImageBlock(media_type=media_type, data=b64encode(data).decode()) if media_type else None


def _image_of_base64(data: str) -> ImageBlock | None:
    try:
        return image_of_bytes(b64decode(data, validate=True))
    except ValueError:
        return None


def arguments(given: object) -> JsonMap:
    """Return the arguments of a call, which may be an object, or JSON in a text.

    Anything else is the only member, `input`.
    """
    value = _parsed(given) if isinstance(given, str) else given
    if value is None:
        return {}
    return cast(JsonMap, value) if isinstance(value, dict) else {"input": given}


def _parsed(text: str) -> object:
    """Return the value of a JSON text, the text if it is none, and None for no text."""
    if not text:
        return None
    try:
        orjson.loads(text)  # refuses NaN, Infinity and half characters, which json takes
        return json.loads(text)  # keeps an integer of any length, which orjson rounds
    except (ValueError, RecursionError):
        return text


def joined_text(parts: Iterable[SourcePart]) -> str:
    """Return the texts among the parts, joined by line breaks."""
    return "\n".join(part.text for part in parts if isinstance(part, TextBlock))
