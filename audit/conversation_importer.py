"""Records conversations from other programs in the log."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic_core import to_json

from audit.imports.errors import ImportFormatError, at, shown
from audit.imports.export_images import FindImage
from audit.imports.import_batches import ImportBatches
from audit.imports.import_events import import_events
from audit.imports.import_plan import PlannedMessage, import_plan, recorded_id, with_images
from audit.imports.imported_conversation import ImageReference, ImportedConversation
from commands.commands import Caller, ClientMessage, Commands
from domain.content import Content
from domain.decisions.conversations import Draft
from domain.errors import DomainError
from eventlog.errors import UnstorableEventError, VersionTakenError

MAX_CONVERSATION_MIB = 16
"""The most content of a conversation in MiB, without images. It is one commit, for which all other appends wait."""


@dataclass(slots=True)
class ImportCounts:
    """The work that an import has done so far.

    `conversations` with `messages` were recorded, and `known` ones were there already. `left_out` counts the content of
    recorded conversations that was left out, by kind. All conversations so far have `read_messages` and end within the
    first `read_bytes` of the export.
    """

    conversations: int = 0
    messages: int = 0
    known: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    read_messages: int = 0
    read_bytes: int = 0


class ConversationImporter:
    """Records conversations from other programs, each once.

    Each is recorded as a whole or not at all.
    """

    def __init__(
        self,
        commands: Commands,
        caller: Caller,
        find_image: FindImage,
        counts: ImportCounts,
        *,
        dry_run: bool = False,
    ) -> None:
        """Record as `caller`, with the images that `find_image` returns.

        `counts` are up to date also after an error. With `dry_run` everything is checked and counted, and nothing is
        recorded.
        """
        self.counts = counts
        self._commands = commands
        self._caller = caller
        self._find_image = find_image
        self._checked: set[UUID] | None = set() if dry_run else None
        self._finding_images = asyncio.Lock()

    async def record_all(self, batches: ImportBatches, report: Callable[[], None] = lambda: None) -> None:
        """Record the conversations of an export.

        `report` is called between batches. After a fault, and if this is cancelled, the conversations that were read
        before are recorded and counted.

        Raises:
            ImportFormatError: the export is in no known format, or in another one, or is damaged.
            OSError: a file cannot be read.
            StoreUnavailableError: the database does not answer.
        """
        batch = await asyncio.to_thread(batches.next)
        while batch:
            read_bytes = batches.read_bytes
            recording = asyncio.create_task(self.record(batch))
            try:
                # The next batch is read while PostgreSQL commits this one.
                batch = await asyncio.to_thread(batches.next)
            finally:
                await _end_of(recording)
            self.counts.read_bytes = read_bytes
            if batch:
                report()

    async def record(self, conversations: Sequence[ImportedConversation]) -> None:
        """Record those of some conversations that the log does not have.

        All of them are tried before an error is raised. A conversation that was deleted since is not recorded again.

        Raises:
            ImportFormatError: a conversation cannot be recorded, or an image in an archive is damaged.
            OSError: an image cannot be read.
            StoreUnavailableError: the database does not answer.
        """
        new = await self._new(conversations)
        self.counts.known += len(conversations) - len(new)
        outcomes = await asyncio.gather(*map(self._record, new.values()), return_exceptions=True)
        self._commands.executor.discard(new)
        self.counts.read_messages += sum(len(conversation.messages) for conversation in conversations)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _new(self, conversations: Sequence[ImportedConversation]) -> dict[UUID, ImportedConversation]:
        """Return the conversations that the log does not have, by their ids in it."""
        by_id: dict[UUID, ImportedConversation] = {}
        for conversation in conversations:
            by_id.setdefault(recorded_id(conversation, self._caller.owner_id), conversation)
        known = await self._commands.executor.log.recorded(list(by_id))
        if self._checked is not None:
            known |= self._checked & by_id.keys()
            self._checked |= by_id.keys()
        return {id_: conversation for id_, conversation in by_id.items() if id_ not in known}

    async def _record(self, conversation: ImportedConversation) -> None:
        plan = import_plan(conversation, self._caller.owner_id)
        with at(f"conversation {shown(conversation.source_id or conversation.title or 'without a title')}"):
            try:
                drafts = [await self._draft(step) for step in plan.steps if isinstance(step, PlannedMessage)]
                _check_size(drafts)
                events = import_events(plan, self._caller.origin(), drafts)
                if self._checked is None:
                    await self._commands.executor.start(events)
            except VersionTakenError:  # another import was faster
                self.counts.known += 1
                return
            except (DomainError, UnstorableEventError) as error:
                raise ImportFormatError(str(error)) from error
        self.counts.conversations += 1
        self.counts.messages += len(drafts)
        self.counts.left_out.update(plan.left_out)

    async def _draft(self, planned: PlannedMessage) -> Draft:
        if not any(isinstance(block, ImageReference) for block in planned.content):
            return await self._stored(planned, with_images(planned.content, self._find_image))
        # One message at a time, because its images are in memory until they are stored.
        async with self._finding_images:
            content = await asyncio.to_thread(with_images, planned.content, self._find_image)
            return await self._stored(planned, content)

    async def _stored(self, planned: PlannedMessage, content: Content) -> Draft:
        if self._checked is None:
            draft = await self._commands.draft(ClientMessage(planned.role, content, planned.in_reply_to))
        else:
            draft = Draft(planned.id, planned.role, content, 0, "", planned.in_reply_to)
        return draft._replace(id=planned.id, model=planned.model, said_at=planned.said_at)


def _check_size(drafts: Sequence[Draft]) -> None:
    written = (to_json([block for block in draft.content if block.type != "image"]) for draft in drafts)
    if sum(map(len, written)) > MAX_CONVERSATION_MIB * 1024 * 1024:
        raise ImportFormatError(f"longer than {MAX_CONVERSATION_MIB} MiB")


async def _end_of(recording: asyncio.Task[None]) -> None:
    """Wait for the end of a task, also if this is cancelled meanwhile."""
    try:
        await asyncio.shield(recording)
    except asyncio.CancelledError:
        await recording
        raise
