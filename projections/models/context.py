"""The LLM context: the messages a model is sent, trimmed to a token budget."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol
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
                added.append(_entry(event)._asdict())
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
        return {"context": list(context_rows(events))}


class ContextRow(NamedTuple):
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


def context_rows(events: Sequence[ConversationEvent]) -> list[ContextRow]:
    """Return the index of whole conversations."""
    deleted = {event.message_id for event in events if isinstance(event, MessageDeleted)}
    deleted_conversations = {event.originator_id for event in events if isinstance(event, ConversationDeleted)}
    remaining: dict[UUID, list[ContextRow]] = {}
    for event in events:
        if isinstance(event, MessagesSuperseded):
            before = remaining.get(event.originator_id)
            while before and before[-1].version >= event.from_version:
                before.pop()
        elif isinstance(event, MessageAdded) and event.message_id not in deleted:
            before = remaining.setdefault(event.originator_id, [])
            totals = before[-1].totals_after() if before else (0, 0)
            before.append(ContextRow(*_entry(event), *totals))
    return [row for id_, rows in remaining.items() if id_ not in deleted_conversations for row in rows]


class _Entry(NamedTuple):
    conversation_id: UUID
    version: int
    message_id: UUID
    role: str
    tokens: int


def _entry(event: MessageAdded) -> _Entry:
    tokens = estimated_tokens(event)
    return _Entry(event.originator_id, event.originator_version, event.message_id, event.role, tokens)


class ContextIndex(Protocol):
    """The index of one conversation. The dialogue is all but system messages."""

    @property
    def messages(self) -> int | None:
        """The number of messages of the dialogue, None without any message."""
        ...

    async def system(self) -> list[tuple[int, int]]:
        """Return the versions and the tokens of the system messages."""
        ...

    async def takes_at_most(self, tokens: int) -> bool:
        """Return whether the whole dialogue takes at most so many tokens."""
        ...

    async def first_within(self, tokens: int) -> int | None:
        """Return the first version with at most so many tokens of dialogue from it on."""
        ...

    async def nth_newest(self, newer: int) -> int | None:
        """Return the version of the message before the `newer` newest of the dialogue."""
        ...

    async def user_message_from(self, version: int) -> int | None:
        """Return the first user message from a version on, else the newest before."""
        ...

    async def user_message_before(self, version: int) -> int | None:
        """Return the newest user message before a version, else the first after."""
        ...

    async def dialogue_from(self, version: int) -> list[int]:
        """Return the versions of the dialogue from a version on."""
        ...


OpenIndex = Callable[[UUID], Awaitable[ContextIndex]]
"""Returns the index of a conversation."""

_SQL = ContextProjection().sql


class Context:
    """Reads the context. Every method may raise StoreUnavailableError."""

    def __init__(self, database: Database, log: Log, open_index: OpenIndex | None = None) -> None:
        """Read the context of now, or the one whose index `open_index` returns."""
        self._log = log
        self._images = ImageStore(database)
        self._open_index = open_index or _open_table(database)

    async def window(
        self, conversation_id: UUID, max_tokens: int, last: int | None = None, *, count: CountTokens
    ) -> ContextWindow:
        """Return the newest messages that fit into `max_tokens`, and system messages.

        `last` limits their number. The window begins with a user message. It holds the newest user message and all
        messages after it even if they do not fit.
        """
        index = await self._open_index(conversation_id)
        all_messages = index.messages
        if all_messages is None:
            return ContextWindow([], 0, 0)
        system = await index.system()
        first = await _version_of_last(index, last)
        read_tokens = max(0, max_tokens - sum(tokens for _, tokens in system))
        while True:
            version = max(first, await _version_within(index, read_tokens))
            dialogue = await index.dialogue_from(version)
            messages = await self._messages(conversation_id, [*(version for version, _ in system), *dialogue])
            window = await trimmed(messages, max_tokens, count)
            # The totals are estimates. If all that was read fits and there is more, twice as much is read, so that few
            # reads suffice however wrong the estimates are.
            is_full = window.dropped or window.tokens > max_tokens
            if is_full or version == first or await index.takes_at_most(read_tokens):
                dropped = all_messages - len(dialogue) + window.dropped
                with_images = await self._images.restored_events(window.messages)
                return ContextWindow(with_images, window.tokens, dropped)
            read_tokens = max(2 * read_tokens, max_tokens, 1)

    async def _messages(self, conversation_id: UUID, versions: list[int]) -> list[MessageAdded]:
        recorded = await self._log.versions(conversation_id, versions)
        return [item.event for item in recorded if isinstance(item.event, MessageAdded)]


async def _version_of_last(index: ContextIndex, last: int | None) -> int:
    """Return the version at which the `last` newest messages begin, 0 for all."""
    if last is None:
        return 0
    version = await index.nth_newest(last - 1) or 0
    return await index.user_message_from(version) or version


async def _version_within(index: ContextIndex, tokens: int) -> int:
    """Return a user message with more than so many tokens of dialogue from it on.

    The messages from it on are all that may fit, and little more.
    """
    version = await index.first_within(tokens) or LAST_VERSION
    return await index.user_message_before(version) or version


class _TableIndex:
    """The index of a conversation in the read model."""

    def __init__(self, database: Database, conversation_id: UUID) -> None:
        self._database = database
        self._conversation_id = conversation_id
        self._tokens = 0
        self.messages: int | None = None

    async def open(self) -> None:
        totals = await self._read("read_totals")
        if totals:
            self._tokens, self.messages = totals[0]

    async def system(self) -> list[tuple[int, int]]:
        return [(version, tokens) for version, tokens in await self._read("read_system")]

    async def takes_at_most(self, tokens: int) -> bool:
        return self._tokens <= tokens

    async def first_within(self, tokens: int) -> int | None:
        return _first(await self._read("find_within", tokens=self._tokens - tokens))

    async def nth_newest(self, newer: int) -> int | None:
        return _first(await self._read("find_nth_newest", newer=newer))

    async def user_message_from(self, version: int) -> int | None:
        return _first(await self._read("find_user_message", version=version))

    async def user_message_before(self, version: int) -> int | None:
        return _first(await self._read("find_earlier_user_message", version=version))

    async def dialogue_from(self, version: int) -> list[int]:
        return [row[0] for row in await self._read("read_from", version=version)]

    async def _read(self, name: str, **parameters: int) -> list[TupleRow]:
        return await self._database.fetch(_SQL.reading(name), {"conversation_id": self._conversation_id, **parameters})


def _open_table(database: Database) -> OpenIndex:
    async def open_index(conversation_id: UUID) -> ContextIndex:
        index = _TableIndex(database, conversation_id)
        await index.open()
        return index

    return open_index


def _first(rows: Iterable[TupleRow]) -> int | None:
    return next((row[0] for row in rows), None)
