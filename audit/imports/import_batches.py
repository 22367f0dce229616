"""The conversations of an export in batches, which bound the memory of an import."""

from pathlib import Path

from audit.imports.errors import ImportFormatError
from audit.imports.export_files import export_bytes
from audit.imports.import_formats import read_conversations
from audit.imports.imported_conversation import ImportedConversation, SourceFormat

BATCH_CONVERSATIONS = 64
BATCH_BYTES = 1024 * 1024


class ImportBatches:
    """Reads an export, some conversations at a time.

    `read_bytes` of `total_bytes` have been read.
    """

    def __init__(self, path: Path, source_format: SourceFormat | None = None) -> None:
        """Open an export, which is read in a format, or in the one that its content tells.

        Raises:
            ImportFormatError: the folder or the archive has no conversations, or the archive is damaged.
            OSError: a file cannot be read.
        """
        self.read_bytes = 0
        self.total_bytes = export_bytes(path)
        self._conversations = read_conversations(path, source_format, self._count)
        self._fault: ImportFormatError | OSError | None = None

    def next(self) -> list[ImportedConversation]:
        """Return the next conversations, and none at the end.

        A fault is raised after all conversations before it were returned.

        Raises:
            ImportFormatError: the export is in no known format, or in another one, or is damaged.
            OSError: a file cannot be read.
        """
        batch: list[ImportedConversation] = []
        enough = self.read_bytes + BATCH_BYTES
        try:
            for conversation in self._conversations:
                batch.append(conversation)
                if len(batch) == BATCH_CONVERSATIONS or self.read_bytes >= enough:
                    break
        except (ImportFormatError, OSError) as fault:
            self._fault = fault
        if self._fault is not None and not batch:
            raise self._fault
        return batch

    def _count(self, number: int) -> None:
        self.read_bytes += number
