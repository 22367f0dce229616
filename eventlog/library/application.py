"""Conversations as a synchronous application of the eventsourcing library.

Without an environment it stores everything in memory (the library's `popo` module). With
`PERSISTENCE_MODULE=eventlog.library` it uses the same log as the server.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import Mapper, Transcoder

from domain.conversation import Conversation, ConversationSnapshot, fold
from domain.decisions.conversations import Events
from domain.errors import ConversationNotFoundError
from eventlog.mapper import SNAPSHOT_INTERVAL, ConversationMapper, JSONBytesTranscoder


class ConversationApplication(Application[UUID]):
    """Records the events of decisions on conversations, for scripts, tests and tools."""

    is_snapshotting_enabled = True
    snapshot_class = cast(Any, ConversationSnapshot)
    env: ClassVar[dict[str, str]] = {}

    def start(self, events: Events) -> Conversation:
        """Record the first events of a conversation and return its state.

        Raises:
            IntegrityError: the conversation exists already.
        """
        self.save(*cast(Any, events))
        return _state(fold(None, events), events[0].originator_id)

    def execute(self, conversation_id: UUID, decide: Callable[[Conversation], Events]) -> Conversation:
        """Record the events that `decide` returns, and return the state after them.

        Raises:
            ConversationNotFoundError: there is no such conversation.
            DomainError: `decide` refuses.
            IntegrityError: another writer recorded the next version first. The caller may try again.
        """
        before = self.conversation(conversation_id)
        events = decide(before)
        self.save(*cast(Any, events))
        after = _state(fold(before, events), conversation_id)
        if before.version // SNAPSHOT_INTERVAL != after.version // SNAPSHOT_INTERVAL:
            self.take_snapshot(conversation_id, projector_func=_project)
        return after

    def conversation(self, conversation_id: UUID, version: int | None = None) -> Conversation:
        """Return the current state of a conversation, or its state at an earlier version.

        Raises:
            ConversationNotFoundError: there is no such conversation.
        """
        if not self.recorder.select_events(conversation_id, limit=1):
            raise ConversationNotFoundError(conversation_id)
        return cast(Conversation, self.repository.get(conversation_id, version=version, projector_func=_project))

    def construct_transcoder(self) -> Transcoder:
        """Return the transcoder of the log."""
        return JSONBytesTranscoder()

    def construct_mapper(self) -> Mapper[UUID]:
        """Return the mapper of the log."""
        return ConversationMapper(self.construct_transcoder())


def _project(state: Any, events: Iterable[Any]) -> Any:
    return fold(state, events)


def _state(state: Conversation | None, conversation_id: UUID) -> Conversation:
    if state is None:
        raise ConversationNotFoundError(conversation_id)
    return state
