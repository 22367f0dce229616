"""Search of the log: stored events by type, actor, owner and time, page by page."""

from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg.rows import TupleRow

from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.log import Log, audit_record

MAX_SCANNED = 50_000
"""The most events that one page reads to find the wanted ones."""
MAX_SCANNED_RARE = 5_000
"""The same for events of a rare type, which are far apart on the disk."""
MAX_PAGE_BYTES = 4 * 1024 * 1024
"""The stored size of the events of one page. A larger event is a page of its own."""
FREQUENT_TYPES = frozenset({"StreamDelta", "MessageAdded", "TurnStarted", "TurnCompleted", "ConversationStarted"})
"""The types that the index of rare types leaves out."""

_SQL = load_statements("eventlog", "log_search.sql")


class EventFilter(NamedTuple):
    """Selects stored events. None selects all.

    `owner_id` selects the events of an owner's conversations and agents. `after` and `before` are times of recording or
    positions, both exclusive.
    """

    type: str | None = None
    actor: str | None = None
    owner_id: str | None = None
    after: int | datetime | None = None
    before: int | datetime | None = None

    @property
    def is_of_rare_type(self) -> bool:
        """Whether the index of rare types has all events that it selects."""
        return self.type is not None and self.type not in FREQUENT_TYPES


class FoundEvents(NamedTuple):
    """A page of stored events. It may be short, or even empty, before the last page.

    The next page begins beyond the place `end`, which is None on the last page.
    """

    records: list[dict[str, Any]]
    end: int | None


class _Section(NamedTuple):
    """The places after `low` up to `high`.

    Places are positions of the log, or versions of a conversation.
    """

    low: int
    high: int

    def beyond(self, place: int | None, *, newest_first: bool) -> "_Section":
        """Return the rest of the section beyond a place, all of it with None."""
        if place is None:
            return self
        if newest_first:
            return self._replace(high=min(self.high, place - 1))
        return self._replace(low=max(self.low, place))

    def first(self, places: int, *, newest_first: bool) -> "_Section":
        """Return the first places of the section."""
        if newest_first:
            return self._replace(low=max(self.low, self.high - places))
        return self._replace(high=min(self.high, self.low + places))

    def end(self, *, newest_first: bool) -> int:
        """Return the place beyond which the events after this section are."""
        return self.low + 1 if newest_first else self.high


class LogSearch:
    """Finds stored events, oldest or newest first.

    A page continues beyond the `end` of the page before it. It reads a bounded part of the log, however few events are
    wanted. Every method may raise StoreUnavailableError.
    """

    def __init__(
        self, database: Database, max_scanned: int = MAX_SCANNED, max_scanned_rare: int = MAX_SCANNED_RARE
    ) -> None:
        self._database = database
        self._log = Log(database)
        self._max_scanned = max_scanned
        self._max_scanned_rare = max_scanned_rare

    async def in_log(
        self, wanted: EventFilter, beyond: int | None, limit: int, *, newest_first: bool = False
    ) -> FoundEvents:
        """Return a page of events of all aggregates. Its places are positions."""
        rest = (await self._bounds(wanted)).beyond(beyond, newest_first=newest_first)
        scanned = await self._scanned(wanted, rest, newest_first=newest_first)
        statement = _statement("in_log", *_conditions(wanted), _order("log", newest_first=newest_first))
        rows = await self._find(statement, wanted, scanned, limit + 1)
        return await self._page(rows, 0, rest, scanned, limit, newest_first=newest_first)

    async def in_conversation(
        self,
        conversation_id: UUID,
        wanted: EventFilter,
        beyond: int | None,
        limit: int,
        *,
        newest_first: bool = False,
    ) -> FoundEvents:
        """Return a page of events of one conversation or other aggregate.

        Its places are versions.
        """
        whole = _Section(0, await self._log.last_version(conversation_id))
        rest = whole.beyond(beyond, newest_first=newest_first)
        scanned = rest.first(self._max_scanned, newest_first=newest_first)
        order = _order("conversation", newest_first=newest_first)
        statement = _statement("in_conversation", *_conditions(wanted), order)
        rows = await self._find(statement, wanted, scanned, limit + 1, conversation_id=conversation_id)
        return await self._page(rows, 1, rest, scanned, limit, newest_first=newest_first)

    async def _bounds(self, wanted: EventFilter) -> _Section:
        """Return the section of the log that holds all events between two moments."""
        low, high = 0, await self._log.head()
        if isinstance(wanted.after, datetime):
            low = await self._log.first_after(wanted.after) - 1
        elif wanted.after is not None:
            low = max(low, wanted.after)
        if isinstance(wanted.before, datetime):
            high = min(high, await self._log.position_of(wanted.before))
        elif wanted.before is not None:
            high = min(high, wanted.before - 1)
        return _Section(low, high)

    async def _scanned(self, wanted: EventFilter, rest: _Section, *, newest_first: bool) -> _Section:
        """Return the first part of a section of the log that one page may read."""
        if not wanted.is_of_rare_type:
            return rest.first(self._max_scanned, newest_first=newest_first)
        # The index leads from one event of the type to the next, however far apart they are.
        if wanted.actor is None and wanted.owner_id is None:
            return rest
        order = _order("log", newest_first=newest_first)
        statement = _statement("in_log", "and_rare_type", order, "skipping", begin="find_positions")
        rows = await self._find(statement, wanted, rest, 1, skipped=self._max_scanned_rare)
        if not rows:
            return rest
        return rest._replace(low=rows[0][0]) if newest_first else rest._replace(high=rows[0][0] - 1)

    async def _find(
        self, statement: LiteralString, wanted: EventFilter, section: _Section, limit: int, **parameters: Any
    ) -> list[TupleRow]:
        """Return the columns of at most `limit` events of a section."""
        if section.low >= section.high:
            return []
        given = {**wanted._asdict(), **section._asdict(), "limit": limit, **parameters}
        return await self._database.fetch(statement, given)

    async def _page(
        self, rows: list[TupleRow], place: int, rest: _Section, scanned: _Section, limit: int, *, newest_first: bool
    ) -> FoundEvents:
        """Return the page of found events, one more than `limit` if there are more.

        `place` is the column of their places.
        """
        kept = _that_fit(rows[:limit])
        records = await self._read([row[0] for row in kept])
        if len(kept) < len(rows):
            end = kept[-1][place]
        else:
            end = None if scanned == rest else scanned.end(newest_first=newest_first)
        return FoundEvents(records[::-1] if newest_first else records, end)

    async def _read(self, positions: list[int]) -> list[dict[str, Any]]:
        if not positions:
            return []
        rows = await self._database.fetch(_SQL["read_positions"], {"positions": positions})
        return [audit_record(row) for row in rows]


def _statement(*parts: str, begin: str = "find") -> LiteralString:
    """Return the statement that finds events, with its further parts."""
    return "\n".join([_SQL[part] for part in (begin, *parts)])


def _order(place: str, *, newest_first: bool) -> str:
    return f"{place}_newest_first" if newest_first else f"{place}_oldest_first"


def _conditions(wanted: EventFilter) -> list[str]:
    rare = "rare" if wanted.is_of_rare_type else "frequent"
    named = {
        f"and_{rare}_type": wanted.type,
        "and_actor": wanted.actor,
        "and_owner_id": wanted.owner_id,
        f"and_after_{_kind(wanted.after)}": wanted.after,
        f"and_before_{_kind(wanted.before)}": wanted.before,
    }
    return [name for name, value in named.items() if value is not None]


def _kind(moment: int | datetime | None) -> str:
    return "time" if isinstance(moment, datetime) else "position"


def _that_fit(rows: list[TupleRow]) -> list[TupleRow]:
    """Return the first of some found events that fit into a page, at least one."""
    size, kept = 0, 0
    for row in rows:
        size += row[2]
        if kept and size > MAX_PAGE_BYTES:
            break
        kept += 1
    return rows[:kept]
