"""The LLM context: which messages a model is sent, trimmed to a budget of tokens without reading the whole past."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow

from domain.events import ConversationDeleted, ConversationEvent, MessageAdded, MessageDeleted, MessagesSuperseded
from eventlog.db.database import Database
from eventlog.images import Images
from eventlog.log import LAST_VERSION, Log
from projections.models.superseded import superseded_range
from projections.models.token_estimates import estimated_tokens
from projections.models.trimming import CountTokens, trimmed
from projections.projection import Change, Projection, Rows


class ContextWindow(NamedTuple):
    """The recorded messages of a window, their tokens, and how many earlier messages are dropped."""

    messages: list[MessageAdded]
    tokens: int
    dropped: int


class ContextProjection(Projection):
    """Builds the index of what can be sent to a model; the words themselves stay in the log."""

    name = "context"
    version = 2
    tables = ("context",)
    types = frozenset({MessageAdded, MessageDeleted, MessagesSuperseded, ConversationDeleted})

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Add what was said, then remove what was deleted or superseded, which shrinks the totals after it."""
        said: list[dict[str, Any]] = []
        removed: list[Change] = []
        gone: list[dict[str, Any]] = []
        for event in events:
            if isinstance(event, MessageAdded):
                said.append(_said(event))
            elif isinstance(event, MessageDeleted):
                removed.append(Change(self.sql.writing("delete_message"), [event.originator_id, event.message_id]))
            elif isinstance(event, MessagesSuperseded):
                removed.append(self.sql.change("delete_superseded", [superseded_range(event)]))
            elif isinstance(event, ConversationDeleted):
                gone.append({"conversation_id": event.originator_id})
        added = [self.sql.change("insert_messages", said)] if said else []
        return [*added, *removed, *([self.sql.change("delete_conversations", gone)] if gone else [])]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return the messages that are left, each with the totals before it."""
        deleted = {event.message_id for event in events if isinstance(event, MessageDeleted)}
        gone = {event.originator_id for event in events if isinstance(event, ConversationDeleted)}
        spoken: dict[UUID, list[_Row]] = {}
        for event in events:
            before = spoken.setdefault(event.originator_id, [])
            if isinstance(event, MessagesSuperseded):
                while before and before[-1].version >= event.from_version:
                    before.pop()
            elif isinstance(event, MessageAdded) and event.message_id not in deleted:
                tokens, messages = before[-1].totals_after() if before else (0, 0)
                before.append(_Row(**_said(event), tokens_before=tokens, messages_before=messages))
        return {"context": [row for id_, rows in spoken.items() if id_ not in gone for row in rows]}


class _Row(NamedTuple):
    """A message in the index, with the totals of those before it; system messages are outside the totals."""

    conversation_id: UUID
    version: int
    message_id: UUID
    role: str
    tokens: int
    tokens_before: int
    messages_before: int

    def totals_after(self) -> tuple[int, int]:
        """Return the tokens and messages up to this one, which is included."""
        counted = self.role != "system"
        return self.tokens_before + counted * self.tokens, self.messages_before + counted


_SQL = ContextProjection().sql


class Context:
    """Reads the context. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log
        self._images = Images(database)

    async def window(
        self, conversation_id: UUID, max_tokens: int, last: int | None = None, *, count: CountTokens
    ) -> ContextWindow:
        """Return the newest messages that fit into `max_tokens`, at most `last` of them, with all system messages.

        The window begins with a user message. It holds the newest user message and all messages after it even if
        they do not fit.
        """
        totals = await self._read("read_totals", conversation_id)
        if not totals:
            return ContextWindow([], 0, 0)
        all_tokens, all_messages = totals[0]
        system = await self._read("read_system", conversation_id)
        first = await self._first(conversation_id, last)
        aim = max(0, max_tokens - sum(tokens for _, tokens in system))
        while True:
            start = max(first, await self._start(conversation_id, all_tokens - aim))
            rows = await self._read("read_from", conversation_id, start)
            messages = await self._messages(conversation_id, [version for version, *_ in (*system, *rows)])
            window = await trimmed(messages, max_tokens, count)
            # The totals are estimates: if all that was read fits and there is more, more is read.
            if window.dropped or window.tokens > max_tokens or start == first or aim >= all_tokens:
                dropped = all_messages - len(rows) + window.dropped
                with_images = await self._images.restored_events(window.messages)
                return ContextWindow(with_images, window.tokens, dropped)
            aim = max(2 * aim, max_tokens, 1)

    async def _first(self, conversation_id: UUID, last: int | None) -> int:
        """Return where the window of the `last` messages begins."""
        if last is None:
            return 0
        newest = await self._read("find_nth_newest", conversation_id, last - 1)
        place = newest[0][0] if newest else 0
        question = await self._read("find_question", conversation_id, place, conversation_id, place)
        return question[0][0] if question else place

    async def _start(self, conversation_id: UUID, tokens_before: int) -> int:
        """Return the place of the question before the first message that has so many tokens before it."""
        fitting = await self._read("find_start", conversation_id, tokens_before)
        place = fitting[0][0] if fitting else LAST_VERSION
        question = await self._read("find_earlier_question", conversation_id, place, conversation_id, place)
        return question[0][0] if question else place

    async def _messages(self, conversation_id: UUID, versions: list[int]) -> list[MessageAdded]:
        recorded = await self._log.versions(conversation_id, versions)
        return [item.event for item in recorded if isinstance(item.event, MessageAdded)]

    async def _read(self, name: str, *parameters: Any) -> list[TupleRow]:
        return await self._database.fetch(_SQL.reading(name), parameters)


def _said(event: MessageAdded) -> dict[str, Any]:
    place = {"conversation_id": event.originator_id, "version": event.originator_version}
    return {**place, "message_id": event.message_id, "role": event.role, "tokens": estimated_tokens(event)}
