"""The events that reads of the past depend on, read from the log."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from domain.events import MessageAdded, StreamDelta
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.mapper import Recorded, Row
from projections.models.history_rows import StreamTextRow

_SQL = load_statements("projections.as_of", "past_events.sql")


class OwnedPlace(NamedTuple):
    """A place in the order of conversations by owner and id."""

    owner_id: str
    conversation_id: UUID


_FIRST = OwnedPlace("", UUID(int=0))


class AddedMessages(NamedTuple):
    """The messages of a conversation: version and time of the last, and their number."""

    conversation_id: UUID
    last_version: int
    last_at: datetime
    number: int


class RemovedMessages(NamedTuple):
    """The removed messages of a conversation: deleted ones, and ranges of versions.

    A range of replaced ones has its first version and the one after its last.
    """

    deleted: Sequence[UUID] = ()
    replaced: Sequence[tuple[int, int]] = ()

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of statements."""
        ranges = Multirange([Range(*versions) for versions in self.replaced])
        return {"deleted": list(map(str, self.deleted)), "replaced": ranges}


class KnownMessages(NamedTuple):
    """The messages of a conversation: the number without system ones, and versions.

    `last_version` is that of the last one, 0 without any. `newer` are those of a newer release. Lists have no order.
    """

    dialogue: int = 0
    last_version: int = 0
    system: list[int] = []
    newer: list[int] = []


class MessageEntry(NamedTuple):
    """A message without its texts. `content` is JSON text, or None for a single text.

    If `current` is false, the event has an older shape, and `tokens` and `content` are not right.
    """

    version: int
    role: str
    tokens: int
    content: str | None
    current: bool


class PastEvents:
    """Reads the log up to a position. Every method may raise StoreUnavailableError.

    Events come in the order of their versions. One that a newer release wrote is an UnknownEvent.
    """

    def __init__(self, database: Database, position: int) -> None:
        self._database = database
        self._position = position

    async def has_conversation(self, conversation_id: UUID, owner_id: str | None) -> bool:
        """Return whether a conversation of an owner, or with None of anybody, had started."""
        statement = "find_conversation" if owner_id is None else "find_conversation_of"
        return bool(await self._fetch(_SQL[statement], conversation_id=conversation_id, owner_id=owner_id))

    async def conversations(
        self, owner_id: str | None, after: OwnedPlace | None, limit: int
    ) -> tuple[list[UUID], OwnedPlace | None]:
        """Return the next conversations of an owner, or with None of all owners.

        The second value is the place of the last one, None without any.
        """
        after = after or _FIRST
        section = {"after_owner": after.owner_id, "after_id": after.conversation_id, "limit": limit}
        statement = "find_everybodys" if owner_id is None else "find_owned"
        rows = await self._fetch(_SQL[statement], owner_id=owner_id, **section)
        return [row[1] for row in rows], OwnedPlace(*rows[-1]) if rows else None

    async def outlines(self, conversation_ids: list[UUID]) -> list[TupleRow]:
        """Return rows of the events that the listing shows of some conversations.

        These are all but messages and deltas, without those that later ones outdate. They have no order.
        """
        return await self._fetch(_SQL["read_outlines"], conversation_ids=conversation_ids)

    async def added_messages(self, conversation_ids: list[UUID]) -> list[AddedMessages]:
        """Return the number of messages of each conversation that has any."""
        rows = await self._fetch(_SQL["count_added"], conversation_ids=conversation_ids)
        return [AddedMessages(*row) for row in rows]

    async def removals(self, conversation_id: UUID) -> list[Recorded]:
        """Return the events that removed or replaced messages."""
        return await self._read("read_removals", conversation_id=conversation_id)

    async def open_turn(self, conversation_id: UUID) -> list[Recorded]:
        """Return the events of a turn that had not ended.

        They begin with its last start or resumption. Deltas are left out. There are none if all turns had ended.
        """
        return await self._read("read_open_turn", conversation_id=conversation_id)

    async def stream_text(self, conversation_id: UUID, after: int) -> list[StreamTextRow] | None:
        """Return what the deltas after a version have streamed, a row for each block.

        It is None if one of them has an older or newer shape.
        """
        version = StreamDelta.class_version
        current = {"class_version": None if version == 1 else str(version)}  # version 1 is not stored
        rows = await self._fetch(_SQL["read_stream_text"], conversation_id=conversation_id, after=after, **current)
        return [StreamTextRow(*row[:-1]) for row in rows] if all(row[-1] for row in rows) else None

    async def deltas(self, conversation_id: UUID, after: int) -> list[Recorded]:
        """Return the deltas after a version."""
        return await self._read("read_deltas", conversation_id=conversation_id, after=after)

    async def message(self, conversation_id: UUID, message_id: UUID) -> list[Recorded]:
        """Return the event that added a message, if there is one."""
        return await self._read("read_message", conversation_id=conversation_id, message_id=str(message_id))

    async def messages(self, conversation_id: UUID, *, descending: bool, beyond: int, limit: int) -> list[Recorded]:
        """Return at most `limit` messages beyond a version, newest first if `descending`."""
        statement = "read_messages_before" if descending else "read_messages_after"
        return await self._read(statement, conversation_id=conversation_id, beyond=beyond, limit=limit)

    async def known_messages(self, conversation_id: UUID, removed: RemovedMessages) -> KnownMessages:
        """Return the number and some versions of the messages that were not removed."""
        known = {"class_versions": list(map(str, range(1, MessageAdded.class_version + 1)))}
        rows = await self._fetch(
            _SQL["count_messages"], conversation_id=conversation_id, **removed.parameters(), **known
        )
        return KnownMessages(*rows[0])

    async def entries(
        self, conversation_id: UUID, removed: RemovedMessages, before: int, limit: int
    ) -> list[MessageEntry]:
        """Return messages before a version, newest first, at most `limit`."""
        current = {"class_version": str(MessageAdded.class_version), "before": before, "limit": limit}
        rows = await self._fetch(
            _SQL["read_entries"], conversation_id=conversation_id, **removed.parameters(), **current
        )
        return [MessageEntry(*row) for row in rows]

    async def agents(self, owner_id: str | None) -> list[Recorded]:
        """Return events of the agents that an owner could use, or with None of all.

        These are the first and the last definition of each agent since it was last deleted.
        """
        with_agents = _SQL["with_agents" if owner_id is None else "with_usable_agents"]
        rows = await self._fetch(with_agents + "\n" + _SQL["read_agents"], owner_id=owner_id)
        return list(recorded(rows))

    async def _read(self, statement: str, **parameters: Any) -> list[Recorded]:
        return list(recorded(await self._fetch(_SQL[statement], **parameters)))

    async def _fetch(self, statement: LiteralString, **parameters: Any) -> list[TupleRow]:
        return await self._database.fetch(statement, {"position": self._position, **parameters})


def recorded(rows: Iterable[TupleRow]) -> Iterable[Recorded]:
    """Return the events of rows."""
    return (Row(*row).recorded() for row in rows)
