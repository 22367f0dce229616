"""The events of an import plan."""

from collections.abc import Iterable
from uuid import UUID

from audit.imports.import_plan import ImportPlan, PlannedReplacement
from domain.content import check_content
from domain.decisions.conversations import Draft, Events, Origin, envelope, message_added, start_conversation
from domain.events import MessagesSuperseded


def import_events(plan: ImportPlan, origin: Origin, drafts: Iterable[Draft]) -> Events:
    """Return the events that record a plan.

    `drafts` are the messages of the plan in its order, with its ids, models and times, their images stored and their
    tokens counted.

    Raises:
        InvalidContentError: a message breaks a rule of content.
        UnsupportedImageError: the bytes of an image do not match its type.
    """
    events = start_conversation(plan.conversation_id, origin, title=plan.title, metadata=plan.metadata)
    versions: dict[UUID, int] = {}
    waiting = iter(drafts)
    for step in plan.steps:
        version = len(events) + 1
        if isinstance(step, PlannedReplacement):
            first = versions[step.first_id]
            superseded = MessagesSuperseded(
                **envelope(plan.conversation_id, version, origin), from_version=first, count=step.messages
            )
            events.append(superseded)
            continue
        draft = next(waiting)
        check_content(draft.role, draft.content, ("messages", len(versions)))
        versions[step.id] = version
        events.append(message_added(plan.conversation_id, version, origin, draft, None))
    return events
