"""The formats that can be imported, and how one is recognized."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from audit.imports.checked_bytes import Readable
from audit.imports.errors import ImportFormatError, at
from audit.imports.export_files import export_files
from audit.imports.fields import JsonMap, as_object
from audit.imports.formats.chatgpt_export import chatgpt_conversation, is_chatgpt_conversation
from audit.imports.formats.claude_export import claude_conversation, is_claude_conversation
from audit.imports.formats.open_webui_export import is_open_webui_chat, open_webui_chat
from audit.imports.formats.openai_messages import is_openai_conversation, openai_conversation
from audit.imports.imported_conversation import ImportedConversation, SourceFormat
from audit.imports.json_values import json_values


class ImportFormat(NamedTuple):
    """A format: how a conversation of it is recognized, and how it is read."""

    recognizes: Callable[[JsonMap], bool]
    read: Callable[[JsonMap], ImportedConversation]


# In this order: chats of Open WebUI may have `messages` too.
FORMATS: dict[SourceFormat, ImportFormat] = {
    "chatgpt": ImportFormat(is_chatgpt_conversation, chatgpt_conversation),
    "claude": ImportFormat(is_claude_conversation, claude_conversation),
    "open-webui": ImportFormat(is_open_webui_chat, open_webui_chat),
    "openai": ImportFormat(is_openai_conversation, openai_conversation),
}


def read_conversations(
    path: Path, source_format: SourceFormat | None = None, on_read: Callable[[int], None] = lambda number: None
) -> Iterator[ImportedConversation]:
    """Yield the conversations of an export, one at a time.

    `path` is a file, a folder, or a zip archive. Without a format the first conversation of each file tells it.
    `on_read` is called with the number of bytes of each read.

    Raises:
        ImportFormatError: the export is in no known format, or in another one, or is damaged.
        OSError: a file cannot be read.
    """
    for name, file in export_files(path):
        with at(name):
            yield from _conversations(_CountedFile(file, on_read), source_format)


def _conversations(file: Readable, source_format: SourceFormat | None) -> Iterator[ImportedConversation]:
    chosen = FORMATS[source_format] if source_format else None
    for number, value in json_values(file):
        with at(f"conversation {number}"):
            given = as_object(value, "it")
            chosen = chosen or _recognized(given)
            conversation = chosen.read(given)
        yield conversation


class _CountedFile:
    """A file whose reads are counted."""

    def __init__(self, file: Readable, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._on_read = on_read

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._on_read(len(data))
        return data


def _recognized(given: JsonMap) -> ImportFormat:
    found = next((known for known in FORMATS.values() if known.recognizes(given)), None)
    if found is None:
        raise ImportFormatError(f"in none of the formats {', '.join(FORMATS)}")
    return found
