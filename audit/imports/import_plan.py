"""How an imported conversation is recorded, with branches one after the other.

A log has one order, so the branches of a conversation are recorded one after the other. Before a message that goes on
from an earlier one, all messages after that one are superseded. So branches become alternatives, as if answers had been
regenerated and questions edited, and the current branch is the history.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid5

from audit.imports.export_images import FindImage
from audit.imports.imported_conversation import ImageReference, ImportedBlock, ImportedConversation, ImportedMessage
from domain.content import BLOCKS_OF_ROLE, Content, ContextBlock, ImageBlock, Role, ToolResultBlock, ToolUseBlock
from domain.tools import unanswered
from domain.values import JsonObject

_CLOSING = "closing"


class PlannedMessage(NamedTuple):
    """A message to record.

    Its id is derived from the source, so it is the same at every import. `with_images` makes its content.
    """

    id: UUID
    role: Role
    content: tuple[ImportedBlock, ...]
    in_reply_to: UUID | None = None
    model: str | None = None
    said_at: datetime | None = None


class PlannedReplacement(NamedTuple):
    """The messages from one on leave the history. `messages` is their number."""

    first_id: UUID
    messages: int


PlannedStep = PlannedMessage | PlannedReplacement


class ImportPlan(NamedTuple):
    """The events to record of a conversation, in order."""

    conversation_id: UUID
    title: str | None
    metadata: JsonObject
    steps: tuple[PlannedStep, ...]
    left_out: Mapping[str, int]


def recorded_id(conversation: ImportedConversation, owner_id: str) -> UUID:
    """Return the id that a conversation has in the log, the same at every import."""
    return uuid5(conversation.import_id, owner_id)


def import_plan(conversation: ImportedConversation, owner_id: str) -> ImportPlan:
    """Return the plan to record a conversation as `owner_id`'s."""
    conversation_id = recorded_id(conversation, owner_id)
    planning = _Planning(conversation_id, Counter(conversation.left_out))
    for message in conversation.messages:
        planning.add(message)
    planning.end()
    return ImportPlan(
        conversation_id, conversation.title, _metadata(conversation), tuple(planning.steps), dict(planning.left_out)
    )


def with_images(content: tuple[ImportedBlock, ...], find_image: FindImage) -> Content:
    """Return the content of a message with the images of its references.

    `find_image` returns them from the files of the export. A reference without an image becomes a context block.
    """
    return tuple(
        find_image(block) or _reference(block) if isinstance(block, ImageReference) else block for block in content
    )


def _metadata(conversation: ImportedConversation) -> JsonObject:
    source = {
        "format": conversation.source_format,
        "id": conversation.source_id,
        "created_at": conversation.created_at and conversation.created_at.isoformat(),
    }
    return {"imported_from": {name: value for name, value in source.items() if value is not None}}


class _Shown(NamedTuple):
    """A message of the history at one moment, with what is known after it."""

    source_id: str
    id: UUID
    is_current: bool
    last_user: UUID | None
    open_calls: tuple[str, ...]


@dataclass(slots=True)
class _Planning:
    """The steps so far, and the history after them."""

    conversation_id: UUID
    left_out: Counter[str]
    steps: list[PlannedStep] = field(default_factory=list[PlannedStep])
    history: list[_Shown] = field(default_factory=list[_Shown])
    recorded: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """For each message of the source itself, or the last recorded one before it if it is not recorded."""

    def add(self, message: ImportedMessage) -> None:
        content = tuple(self._blocks(message))
        parent = None if message.parent is None else self.recorded[message.parent]
        self.recorded[message.source_id] = message.source_id if content else parent
        if not content:
            return
        self._return_to(parent)
        if message.role == "user":
            self._close_calls(message)
        last = self.history[-1] if self.history else None
        message_id = uuid5(self.conversation_id, message.source_id)
        last_user = last.last_user if last else None
        self.steps.append(
            PlannedMessage(
                message_id,
                message.role,
                content,
                last_user if message.role == "assistant" else None,
                message.model,
                message.said_at,
            )
        )
        self.history.append(
            _Shown(
                message.source_id,
                message_id,
                message.is_current,
                message_id if message.role == "user" else last_user,
                _open_calls(last.open_calls if last else (), content),
            )
        )

    def end(self) -> None:
        """Replace what follows the current branch, if the source shows less than there is."""
        current = [place for place, shown in enumerate(self.history, start=1) if shown.is_current]
        if current:
            self._replace_from(current[-1])

    def _return_to(self, parent: str | None) -> None:
        """Replace what was recorded after a message."""
        place = len(self.history)
        while place and self.history[place - 1].source_id != parent:
            place -= 1
        self._replace_from(place)

    def _replace_from(self, place: int) -> None:
        if replaced := self.history[place:]:
            self.steps.append(PlannedReplacement(replaced[0].id, len(replaced)))
            del self.history[place:]

    def _close_calls(self, message: ImportedMessage) -> None:
        """Record error results for the calls that the source never answered."""
        last = self.history[-1] if self.history else None
        if last is None or not last.open_calls:
            return
        closing_id = uuid5(uuid5(self.conversation_id, message.source_id), _CLOSING)
        self.steps.append(PlannedMessage(closing_id, "tool", unanswered(last.open_calls), said_at=message.said_at))
        # It has the source id of the user's message, because it is replaced with that.
        closing = _Shown(message.source_id, closing_id, message.is_current, last.last_user, ())
        self.history.append(closing)

    def _blocks(self, message: ImportedMessage) -> Iterator[ImportedBlock]:
        """Yield the blocks that the message's role may have in Turnlog."""
        for block in message.content:
            if isinstance(block, ImageBlock | ImageReference) and "image" not in BLOCKS_OF_ROLE[message.role]:
                self.left_out["images"] += 1
            else:
                yield block


def _reference(image: ImageReference) -> ContextBlock:
    """Return what is known of an image that the export does not have."""
    return ContextBlock(data={"image": {"reference": image.reference, "name": image.name}})


def _open_calls(before: tuple[str, ...], content: tuple[ImportedBlock, ...]) -> tuple[str, ...]:
    """Return the open calls after a message. A result closes its call."""
    answered = {block.tool_use_id for block in content if isinstance(block, ToolResultBlock)}
    made = [block.id for block in content if isinstance(block, ToolUseBlock)]
    return tuple(call for call in (*before, *made) if call not in answered)
