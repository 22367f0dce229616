"""The index of the context as it was at a position of the log."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, cast
from uuid import UUID

from pydantic import TypeAdapter

from domain.aggregates import AggregateEvent
from domain.content import Content, Role
from domain.events import ConversationDeleted, MessageAdded, MessageDeleted, MessagesSuperseded
from eventlog.db.database import Database
from eventlog.log import Log
from projections.as_of.past_events import KnownMessages, MessageEntry, PastEvents, RemovedMessages
from projections.models.context import Context, ContextIndex, ContextProjection
from projections.models.token_estimates import estimate, estimated_tokens

FIRST_ENTRIES, MOST_ENTRIES = 200, 5_000
"""The messages that the first read of an index returns. Each further one returns twice as many, at most so many."""

_CONTEXT = ContextProjection()
_CONTENT: TypeAdapter[Content] = TypeAdapter(Content)


def past_context(database: Database, log: Log, position: int) -> Context:
    """Return a reader of the context of a position.

    It raises UnknownEventError at an event of a newer release that it has to read.
    """
    events = PastEvents(database, position)

    async def open_index(conversation_id: UUID) -> ContextIndex:
        removed = _removed(_CONTEXT.select(item.event for item in await events.removals(conversation_id)))
        if removed is None:
            return _PastIndex(events, log, conversation_id, RemovedMessages(), KnownMessages())
        known = await events.known_messages(conversation_id, removed)
        _CONTEXT.select(item.event for item in await log.versions(conversation_id, known.newer[:1]))
        return _PastIndex(events, log, conversation_id, removed, known)

    return Context(database, log, open_index)


def _removed(events: Sequence[AggregateEvent]) -> RemovedMessages | None:
    """Return which messages were removed, None if the whole conversation was deleted."""
    if any(isinstance(event, ConversationDeleted) for event in events):
        return None
    deleted = [event.message_id for event in events if isinstance(event, MessageDeleted)]
    replaced = [event for event in events if isinstance(event, MessagesSuperseded)]
    return RemovedMessages(deleted, [(event.from_version, event.originator_version) for event in replaced])


class _IndexedMessage(NamedTuple):
    """A message of the index. `tokens_from` are those of the dialogue from it on."""

    version: int
    role: str
    tokens_from: int


class _PastIndex:
    """The index of a conversation, read from the newest message back as far as needed."""

    def __init__(
        self, events: PastEvents, log: Log, conversation_id: UUID, removed: RemovedMessages, known: KnownMessages
    ) -> None:
        self._events = events
        self._log = log
        self._conversation_id = conversation_id
        self._removed = removed
        self._known = known
        self._newest_first: list[_IndexedMessage] = []
        self._read_from = known.last_version + 1
        self._number = FIRST_ENTRIES

    @property
    def messages(self) -> int | None:
        return self._known.dialogue if self._known.last_version else None

    async def system(self) -> list[tuple[int, int]]:
        return await self._estimated(self._known.system)

    async def takes_at_most(self, tokens: int) -> bool:
        await self._read_until_more_than(tokens)
        return not self._newest_first or self._newest_first[-1].tokens_from <= tokens

    async def first_within(self, tokens: int) -> int | None:
        await self._read_until_more_than(tokens)
        # The tokens from a message on never get fewer from the newest to the oldest.
        within = bisect_right(self._newest_first, tokens, key=lambda message: message.tokens_from)
        return self._newest_first[within - 1].version if within else None

    async def nth_newest(self, newer: int) -> int | None:
        while len(found := self._dialogue()) <= newer and await self._read_more():
            pass
        return found[newer] if newer < len(found) else None

    async def user_message_from(self, version: int) -> int | None:
        await self._read_down_to(version)
        later = [each for each in self._users() if each >= version]
        return later[-1] if later else await self._user_message_below(version)

    async def user_message_before(self, version: int) -> int | None:
        found = await self._user_message_below(version)
        return next(reversed(self._users()), None) if found is None else found

    async def dialogue_from(self, version: int) -> list[int]:
        await self._read_down_to(version)
        return [each for each in reversed(self._dialogue()) if each >= version]

    def _dialogue(self) -> list[int]:
        return [message.version for message in self._newest_first if message.role != "system"]

    def _users(self) -> list[int]:
        return [message.version for message in self._newest_first if message.role == "user"]

    async def _user_message_below(self, version: int) -> int | None:
        """Return the newest user message before a version. Without one, all is read."""
        while True:
            found = next((each for each in self._users() if each < version), None)
            if found is not None or not await self._read_more():
                return found

    async def _read_until_more_than(self, tokens: int) -> None:
        while not self._newest_first or self._newest_first[-1].tokens_from <= tokens:
            if not await self._read_more():
                return

    async def _read_down_to(self, version: int) -> None:
        while self._read_from > version and await self._read_more():
            pass

    async def _read_more(self) -> bool:
        """Read some earlier messages. Return whether there were any."""
        if not self._read_from:
            return False
        entries = await self._events.entries(self._conversation_id, self._removed, self._read_from, self._number)
        others = [entry.version for entry in entries if not entry.current]
        tokens = dict(await self._estimated(others))
        last = self._newest_first[-1].tokens_from if self._newest_first else 0
        for entry in entries:
            if entry.role != "system":
                last += _tokens(entry) if entry.current else tokens[entry.version]
            self._newest_first.append(_IndexedMessage(entry.version, entry.role, last))
        self._read_from = entries[-1].version if len(entries) == self._number else 0
        self._number = min(2 * self._number, MOST_ENTRIES)
        return bool(entries)

    async def _estimated(self, versions: list[int]) -> list[tuple[int, int]]:
        """Return some messages with the tokens that they are estimated to take."""
        recorded = await self._log.versions(self._conversation_id, versions)
        events = [item.event for item in recorded if isinstance(item.event, MessageAdded)]
        return [(event.originator_version, estimated_tokens(event)) for event in events]


def _tokens(entry: MessageEntry) -> int:
    content = None if entry.content is None else _CONTENT.validate_json(entry.content)
    return estimate(cast(Role, entry.role), entry.tokens, content)
