"""The LLM context: the messages a model is sent, trimmed to a token budget."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow

from domain.events import ConversationDeleted, ConversationEvent, MessageAdded, MessageDeleted, MessagesSuperseded
from eventlog.db.database import Database
from eventlog.image_store import ImageStore
from eventlog.log import LAST_VERSION, Log
from projections.models.history_rows import superseded_range
from projections.models.token_estimates import estimated_tokens
from projections.models.trimming import ContextWindow, CountTokens, trimmed
from projections.projection import Change, Projection, Rows


class ContextProjection(Projection):
    """Builds an index of the messages that can be sent to a model.

    Their content stays in the log.
    """

    name = "context"
    version = 2
    tables = ("context",)
    types = frozenset({MessageAdded, MessageDeleted, MessagesSuperseded, ConversationDeleted})

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Return the statements that add messages, then those that delete some."""
        added: list[dict[str, Any]] = []
        deletions: list[Change] = []
        conversations: list[dict[str, Any]] = []
        for event in events:
            if isinstance(event, MessageAdded):
                added.append(_index_entry(event))
            elif isinstance(event, MessageDeleted):
                message = {"conversation_id": event.originator_id, "message_id": event.message_id}
                deletions.append(Change(self.sql.writing("delete_message"), message))
            elif isinstance(event, MessagesSuperseded):
                deletions.append(self.sql.change("delete_superseded", [superseded_range(event)]))
            elif isinstance(event, ConversationDeleted):
                conversations.append({"conversation_id": event.originator_id})
        first = [self.sql.change("insert_messages", added)] if added else []
        last = [self.sql.change("delete_conversations", conversations)] if conversations else []
        return [*first, *deletions, *last]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return the messages that remain, each with the totals before it."""
        deleted = {event.message_id for event in events if isinstance(event, MessageDeleted)}
        deleted_conversations = {event.originator_id for event in events if isinstance(event, ConversationDeleted)}
        remaining: dict[UUID, list[_Row]] = {}
        for event in events:
            before = remaining.setdefault(event.originator_id, [])
            if isinstance(event, MessagesSuperseded):
                while before and before[-1].version >= event.from_version:
                    before.pop()
            elif isinstance(event, MessageAdded) and event.message_id not in deleted:
                tokens, messages = before[-1].totals_after() if before else (0, 0)
                before.append(_Row(**_index_entry(event), tokens_before=tokens, messages_before=messages))
        return {"context": [row for id_, rows in remaining.items() if id_ not in deleted_conversations for row in rows]}


class _Row(NamedTuple):
    """A message in the index, with the totals of the messages before it.

    The totals leave system messages out.
    """

    conversation_id: UUID
    version: int
    message_id: UUID
    role: str
    tokens: int
    tokens_before: int
    messages_before: int

    def totals_after(self) -> tuple[int, int]:
        """Return the totals up to this message, which is included."""
        counted = self.role != "system"
        return self.tokens_before + counted * self.tokens, self.messages_before + counted


_SQL = ContextProjection().sql


class Context:
    """Reads the context. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log
        self._images = ImageStore(database)

    async def window(
        self, conversation_id: UUID, max_tokens: int, last: int | None = None, *, count: CountTokens
    ) -> ContextWindow:
        """Return the newest messages that fit into `max_tokens`, and system messages.

        `last` limits their number. The window begins with a user message. It holds the newest user message and all
        messages after it even if they do not fit.
        """
        totals = await self._read("read_totals", conversation_id)
        if not totals:
            return ContextWindow([], 0, 0)
        all_tokens, all_messages = totals[0]
        system = await self._read("read_system", conversation_id)
        first = await self._version_of_last(conversation_id, last)
        read_tokens = max(0, max_tokens - sum(tokens for _, tokens in system))
        while True:
            version = max(first, await self._version_within(conversation_id, all_tokens - read_tokens))
            rows = await self._read("read_from", conversation_id, version=version)
            messages = await self._messages(conversation_id, [version for version, *_ in (*system, *rows)])
            window = await trimmed(messages, max_tokens, count)
            # The totals are estimates. If all that was read fits and there is more, twice as much is read, so that few
            # reads suffice however wrong the estimates are.
            if window.dropped or window.tokens > max_tokens or version == first or read_tokens >= all_tokens:
                dropped = all_messages - len(rows) + window.dropped
                with_images = await self._images.restored_events(window.messages)
                return ContextWindow(with_images, window.tokens, dropped)
            read_tokens = max(2 * read_tokens, max_tokens, 1)

    async def _version_of_last(self, conversation_id: UUID, last: int | None) -> int:
        """Return the version at which the `last` newest messages begin, 0 for all."""
        if last is None:
            return 0
        newest = await self._read("find_nth_newest", conversation_id, newer=last - 1)
        version = newest[0][0] if newest else 0
        found = await self._read("find_user_message", conversation_id, version=version)
        return found[0][0] if found else version

    async def _version_within(self, conversation_id: UUID, tokens_before: int) -> int:
        """Return the version of the last user message with fewer tokens before it.

        The messages from it on are all that may fit, and little more.
        """
        fitting = await self._read("find_within", conversation_id, tokens=tokens_before)
        version = fitting[0][0] if fitting else LAST_VERSION
        found = await self._read("find_earlier_user_message", conversation_id, version=version)
        return found[0][0] if found else version

    async def _messages(self, conversation_id: UUID, versions: list[int]) -> list[MessageAdded]:
        recorded = await self._log.versions(conversation_id, versions)
        return [item.event for item in recorded if isinstance(item.event, MessageAdded)]

    async def _read(self, name: str, conversation_id: UUID, **parameters: int) -> list[TupleRow]:
        return await self._database.fetch(_SQL.reading(name), {"conversation_id": conversation_id, **parameters})


def _index_entry(event: MessageAdded) -> dict[str, Any]:
    key = {"conversation_id": event.originator_id, "version": event.originator_version}
    return {**key, "message_id": event.message_id, "role": event.role, "tokens": estimated_tokens(event)}
