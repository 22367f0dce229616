"""Records conversations from other programs in the log."""

from uuid import UUID

from audit.imports.export_images import FindImage
from audit.imports.import_events import import_events
from audit.imports.import_plan import ImportPlan, PlannedMessage, import_plan, recorded_id
from audit.imports.imported_conversation import ImportedConversation
from commands.commands import Caller, ClientMessage, Commands
from domain.decisions.conversations import Draft
from domain.errors import ConversationNotFoundError
from eventlog.errors import VersionTakenError


class ConversationImporter:
    """Records conversations from other programs, each once.

    Each is recorded as a whole or not at all.
    """

    def __init__(self, commands: Commands, caller: Caller, find_image: FindImage) -> None:
        """Record as `caller`, with the images that `find_image` returns."""
        self._commands = commands
        self._caller = caller
        self._find_image = find_image

    async def record(self, conversation: ImportedConversation) -> ImportPlan | None:
        """Record a conversation and return its plan, or None if the log has it already.

        A conversation that was deleted since is not recorded again.

        Raises:
            ImportFormatError: an image in an archive is damaged.
            StoreUnavailableError: the database does not answer.
        """
        if await self._is_recorded(recorded_id(conversation, self._caller.owner_id)):
            return None
        plan = import_plan(conversation, self._caller.owner_id, self._find_image)
        drafts = [await self._draft(step) for step in plan.steps if isinstance(step, PlannedMessage)]
        try:
            await self._commands.executor.start(import_events(plan, self._caller.origin(), drafts))
        except VersionTakenError:  # another import was faster
            return None
        return plan

    async def _is_recorded(self, conversation_id: UUID) -> bool:
        try:
            await self._commands.executor.state(conversation_id)
        except ConversationNotFoundError:
            return False
        return True

    async def _draft(self, planned: PlannedMessage) -> Draft:
        message = ClientMessage(planned.role, planned.content, planned.in_reply_to)
        return (await self._commands.draft(message))._replace(id=planned.id)
