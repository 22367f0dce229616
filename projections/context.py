"""The LLM context: which messages a model is sent, trimmed to a budget of tokens without reading the whole past."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow

from domain.events import ConversationDeleted, ConversationEvent, MessageAdded, MessageDeleted
from eventlog.database import Database
from eventlog.log import LAST_VERSION, Log
from projections.model_messages import model_message
from projections.projection import Change, Projection, Rows


class ContextWindow(NamedTuple):
    """What a model is sent, in OpenAI's chat form; `tokens` in all, and how many earlier messages were `dropped`."""

    messages: list[dict[str, Any]]
    tokens: int
    dropped: int


class ContextProjection(Projection):
    """Builds the index of what can be sent to a model; the words themselves stay in the log."""

    name = "context"
    version = 1
    tables = ("context",)
    types = frozenset({MessageAdded, MessageDeleted, ConversationDeleted})

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        """Add what was said, then remove what was deleted."""
        said: list[dict[str, Any]] = []
        deleted: list[Change] = []
        gone: list[dict[str, Any]] = []
        for event in events:
            if isinstance(event, MessageAdded):
                said.append(_said(event))
            elif isinstance(event, MessageDeleted):
                deleted.append(Change(self.sql.writing("delete_message"), [event.originator_id, event.message_id]))
            elif isinstance(event, ConversationDeleted):
                gone.append({"conversation_id": event.originator_id})
        added = [self.sql.change("insert_messages", said)] if said else []
        return [*added, *deleted, *([self.sql.change("delete_conversations", gone)] if gone else [])]

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        """Return the messages that are left, each with the totals before it."""
        deleted = {event.message_id for event in events if isinstance(event, MessageDeleted)}
        gone = {event.originator_id for event in events if isinstance(event, ConversationDeleted)}
        totals: dict[UUID, tuple[int, int]] = {}
        rows: list[tuple[Any, ...]] = []
        for event in events:
            if isinstance(event, MessageAdded) and event.message_id not in deleted and event.originator_id not in gone:
                tokens, messages = totals.get(event.originator_id, (0, 0))
                rows.append((*_said(event).values(), tokens, messages))
                if event.role != "system":
                    totals[event.originator_id] = (tokens + event.tokens, messages + 1)
        return {"context": rows}


_SQL = ContextProjection().sql


class Context:
    """Reads the context. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log

    async def window(self, conversation_id: UUID, max_tokens: int, last: int | None = None) -> ContextWindow:
        """Return the newest messages that fit into `max_tokens`, at most `last` of them, with all system messages.

        The window begins with a user message. It holds the newest one and all after it even where they do not fit:
        a model that is asked nothing cannot answer.
        """
        totals = await self._read("read_totals", conversation_id)
        if not totals:
            return ContextWindow([], 0, 0)
        all_tokens, all_messages = totals[0]
        system = await self._read("read_system", conversation_id)
        budget = max(0, max_tokens - sum(tokens for _, tokens in system))
        start = await self._start(conversation_id, all_tokens - budget, last)
        rows = await self._read("read_from", conversation_id, start)
        chosen = [*system, *rows]
        recorded = await self._log.versions(conversation_id, [version for version, _ in chosen])
        messages = [item.event for item in recorded if isinstance(item.event, MessageAdded)]
        return ContextWindow(
            [sent for message in messages for sent in model_message(message)],
            sum(tokens for _, tokens in chosen),
            all_messages - len(rows),
        )

    async def _start(self, conversation_id: UUID, tokens_before: int, last: int | None) -> int:
        fitting = await self._read("find_start", conversation_id, tokens_before)
        start = fitting[0][0] if fitting else LAST_VERSION
        if last is not None:
            newest = await self._read("find_nth_newest", conversation_id, last - 1)
            start = max(start, newest[0][0] if newest else 0)
        question = await self._read("find_question", conversation_id, start, conversation_id, start)
        return question[0][0] if question else start

    async def _read(self, name: str, *parameters: Any) -> list[TupleRow]:
        return await self._database.fetch(_SQL.reading(name), parameters)


def _said(event: MessageAdded) -> dict[str, Any]:
    place = {"conversation_id": event.originator_id, "version": event.originator_version}
    return {**place, "message_id": event.message_id, "role": event.role, "tokens": event.tokens}
