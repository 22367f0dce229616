"""Reads the log: events of a conversation, of all, and lookups of commands."""

from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import from_json

from domain.agent import Agent, AgentDefined
from domain.conversation import Conversation, ConversationSnapshot, fold
from domain.decisions.conversations import MessagePlace
from domain.decisions.turn_starts import Superseded
from domain.events import ConversationEvent, ConversationStarted, TurnStarted
from eventlog.db.connection import Connection
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import UnknownEventError
from eventlog.mapper import Recorded, Row, new_snapshot, rebuild

LAST_VERSION = 2**31 - 1
LAST_POSITION = 2**63 - 1
MAX_READ_BYTES = 16 * 1024 * 1024
FEED_BYTES = 256 * 1024

AsOf = int | datetime
"""A moment of a log: a position, or a time."""

_SQL = load_statements("eventlog", "log.sql")


class IdempotentCommand(NamedTuple):
    """The first event of a command with an idempotency key, and its request's SHA-256."""

    conversation_id: UUID
    version: int
    position: int
    fingerprint: bytes


class LogEnd(NamedTuple):
    """The end of a log: the position of its last event, and the time.

    The time is that of the database's clock, or that of the last event if it is later.
    """

    position: int
    at: datetime

    def is_before(self, moment: AsOf) -> bool:
        """Return whether a position or a time is in the future."""
        return self.position < moment if isinstance(moment, int) else self.at < moment


class FeedFilter(NamedTuple):
    """Selects events of an owner's conversations. None selects all."""

    owner_id: str | None
    conversation_id: UUID | None = None
    agent_id: str | None = None
    type: str | None = None


class Log:
    """Reads one log. Every method may raise StoreUnavailableError.

    `after` and `events` return an event that a newer release wrote as an UnknownEvent. `versions`, `find_start` and
    `state` raise UnknownEventError for it. Methods with `records` in their names return stored events of any type, in
    the form that clients see.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def head(self) -> int:
        """Return the position of the last event, 0 for an empty log."""
        row = await self._database.fetch_one(_SQL["read_head"])
        return row[0] if row else 0

    async def end(self) -> LogEnd:
        """Return the end of the log. A later position or time is in the future."""
        ((position, at),) = await self._database.fetch(_SQL["read_end"])
        return LogEnd(position, at)

    async def position_of(self, moment: AsOf) -> int:
        """Return the position that a moment means.

        A time means the last event, in log order, that was recorded at or before it. 0 stands for the time before the
        first event.
        """
        if isinstance(moment, int):
            return moment
        return await self._find_near("find_last_position", moment)

    async def first_after(self, time: datetime) -> int:
        """Return the position of the first event in log order recorded after a time.

        Without one it is the position after the end.
        """
        return await self._find_near("find_first_position", time)

    async def after(self, position: int, limit: int) -> list[Recorded]:
        """Return at most `limit` events after `position`, fewer if they are large."""
        return await self._read(
            "read_after", after=position, upto=position + limit, bytes=MAX_READ_BYTES, next=position + 1
        )

    async def events(
        self, conversation_id: UUID, first: int = 1, last: int = LAST_VERSION, limit: int = LAST_VERSION
    ) -> list[Recorded]:
        """Return at most `limit` events of a conversation, from version `first` to `last`."""
        return await self._read(
            "read_conversation", conversation_id=conversation_id, first=first, last=last, limit=limit
        )

    async def newest_events(self, aggregate_ids: list[UUID], upto: int = LAST_POSITION) -> list[Recorded]:
        """Return the last event up to a position of each of some aggregates that have any."""
        return await self._read_known("read_newest", aggregate_ids=aggregate_ids, upto=upto)

    async def agents(self, agent_ids: list[UUID], upto: int = LAST_POSITION) -> dict[UUID, Agent]:
        """Return those of some agents that have events up to a position, by id.

        Of their events only the last one is read, because each definition holds all settings.

        Raises:
            UnknownEventError: a newer release wrote one of them.
        """
        parameters = {"agent_ids": agent_ids, "upto": upto}
        agents: dict[UUID, Agent] = {}
        for *row, created_at in await self._database.fetch(_SQL["read_agents"], parameters):
            event = Row(*row).recorded().known().event
            definition = event if isinstance(event, AgentDefined) else None
            agents[event.originator_id] = Agent(event.originator_id, event.originator_version, created_at, definition)
        return agents

    async def versions(self, conversation_id: UUID, versions: list[int]) -> list[Recorded]:
        """Return the events of a conversation with these versions, in order."""
        if not versions:
            return []
        return await self._read_known("read_versions", conversation_id=conversation_id, versions=versions)

    async def section_records(self, after: int, upto: int) -> tuple[list[tuple[dict[str, Any], str, str | None]], int]:
        """Return stored events of conversations with their owner and agent, oldest first.

        If events are large, fewer are returned. The second value is the position up to which the log was read.
        """
        rows = await self._database.fetch(_SQL["read_section"], {"after": after, "upto": upto, "bytes": FEED_BYTES})
        found = [(audit_record(row[:10]), row[10], row[11]) for row in rows]
        return found, rows[-1][0] if rows and rows[-1][-1] else upto

    async def feed_records(self, wanted: FeedFilter, after: int, upto: int) -> tuple[list[dict[str, Any]], int]:
        """Return the selected stored events of a section of the log, oldest first.

        If events are large, fewer are returned. The second value is the position up to which the log was read.
        """
        section = {"after": after, "upto": upto, "bytes": FEED_BYTES}
        rows = await self._database.fetch(_SQL["read_feed"], {**wanted._asdict(), **section})
        records = [audit_record(row[:-1]) for row in rows]
        return records, records[-1]["position"] if rows and rows[-1][-1] else upto

    async def conversation_records(
        self, conversation_id: UUID, after_version: int, after: int, limit: int
    ) -> list[dict[str, Any]]:
        """Return stored events of a conversation after a version and a position, in order.

        If events are large, fewer are returned, but at least one.
        """
        parameters = {
            "conversation_id": conversation_id,
            "after_version": after_version,
            "after": after,
            "limit": limit,
            "bytes": FEED_BYTES,
        }
        rows = await self._database.fetch(_SQL["read_conversation_feed"], parameters)
        return [audit_record(row) for row in rows]

    async def last_version(self, aggregate_id: UUID) -> int:
        """Return the version of the newest event of an aggregate, 0 without any."""
        row = await self._database.fetch_one(_SQL["read_last_version"], {"aggregate_id": aggregate_id})
        return row[0] or 0 if row else 0

    async def turn_end(self, conversation_id: UUID, turn_id: UUID, from_version: int) -> int | None:
        """Return the position of a turn's end, looked up from a version on, or None."""
        parameters = {"conversation_id": conversation_id, "first": from_version, "turn_id": str(turn_id)}
        row = await self._database.fetch_one(_SQL["read_turn_end"], parameters)
        return row[0] if row else None

    async def state(self, conversation_id: UUID, known: Conversation | None = None) -> Conversation | None:
        """Return the current state of a conversation, or None if it does not exist.

        The state is folded from `known`, or from the last snapshot.
        """
        state = known or await self._snapshot(conversation_id)
        after = state.version if state else 0
        # The version is read first, so that events recorded between the two reads only make the state newer.
        last = await self.last_version(conversation_id)
        if not last:
            return None
        if known is not None and last < known.version:
            return await self.state(conversation_id)  # the log has lost its newest events
        events = await self._read_known("read_state_events", conversation_id=conversation_id, after=after)
        state = fold(state, (recorded.event for recorded in events))
        return state.at_version(max(state.version, last)) if state else None

    async def belongs_to(self, owner_id: str, conversation_id: UUID) -> bool:
        """Return whether a conversation exists and is this owner's.

        Raises:
            UnknownEventError: its first event cannot be read.
        """
        parameters = {"owner_id": owner_id, "conversation_id": conversation_id}
        row = await self._database.fetch_one(_SQL["find_owned"], parameters)
        if row is None or row[0]:
            return row is not None
        (started,) = await self.versions(conversation_id, [1])
        return isinstance(started.event, ConversationStarted) and started.event.owner_id == owner_id

    async def recorded(self, conversation_ids: list[UUID]) -> set[UUID]:
        """Return those of some conversations that exist, also if they were deleted."""
        rows = await self._database.fetch(_SQL["read_last_versions"], {"conversation_ids": conversation_ids})
        return {row[0] for row in rows}

    async def short_states(self, conversation_ids: list[UUID]) -> list[Conversation]:
        """Return the current states of those of some conversations that have no snapshot.

        Conversations that a newer release has written to are left out too.
        """
        ids = {"conversation_ids": conversation_ids}
        long = {row[0] for row in await self._database.fetch(_SQL["find_snapshots"], ids)}
        ids = {"conversation_ids": [id_ for id_ in conversation_ids if id_ not in long]}
        # The versions are read first, as in `state`.
        last = {row[0]: row[1] for row in await self._database.fetch(_SQL["read_last_versions"], ids)}
        events: dict[UUID, list[Recorded]] = {}
        for item in await self._read("read_events_of_states", **ids):
            events.setdefault(item.event.originator_id, []).append(item)
        states: list[Conversation] = []
        for id_, recorded in events.items():
            with suppress(UnknownEventError):
                state = fold(None, (item.known().event for item in recorded))
                if state:
                    states.append(state.at_version(max(state.version, last.get(id_, 0))))
        return states

    async def find_message(self, conversation_id: UUID, message_id: UUID) -> MessagePlace | None:
        """Return the place of a message, or None if it was never added or was deleted."""
        parameters = {"conversation_id": conversation_id, "message_id": str(message_id)}
        row = await self._database.fetch_one(_SQL["find_message"], parameters)
        return MessagePlace(*row) if row else None

    async def find_start(
        self, conversation_id: UUID, user_message_id: UUID, after_version: int, before_version: int
    ) -> TurnStarted | None:
        """Return the last start between two versions of a turn that answered a message."""
        found = await self._read_known(
            "find_start",
            conversation_id=conversation_id,
            after=after_version,
            before=before_version,
            user_message_id=str(user_message_id),
        )
        event = found[0].event if found else None
        return event if isinstance(event, TurnStarted) else None

    async def superseded(self, conversation_id: UUID, from_version: int) -> Superseded:
        """Return the messages from a version on that still count."""
        parameters = {"conversation_id": conversation_id, "first": from_version}
        row = await self._database.fetch_one(_SQL["count_messages"], parameters)
        return Superseded(from_version, row[0] if row else 0)

    async def last_agent_number(self, owner_id: str, agent_id: str) -> int:
        """Return the number of an owner's last start with an agent that limits them, or 0."""
        row = await self._database.fetch_one(_SQL["read_agent_number"], {"owner_id": owner_id, "agent_id": agent_id})
        return row[0] or 0 if row else 0

    async def find_idempotent(self, owner_id: str, key: str) -> IdempotentCommand | None:
        """Return the command to which an owner gave `key`, or None."""
        row = await self._database.fetch_one(_SQL["find_idempotent"], {"owner_id": owner_id, "key": key})
        return IdempotentCommand(*row) if row else None

    async def write_snapshot(self, state: Conversation) -> None:
        """Store `state` as a snapshot beside the log."""
        snapshot = ConversationSnapshot.take(state)
        parameters = {
            "aggregate": snapshot.AGGREGATE,
            "conversation_id": state.id,
            "version": state.version,
            "type": snapshot.TOPIC,
            "data": new_snapshot(snapshot).decode(),
        }
        await self._database.fetch(_SQL["write_snapshot"], parameters)

    async def _snapshot(self, conversation_id: UUID) -> Conversation | None:
        parameters = {"conversation_id": conversation_id, "after": 0, "last": LAST_VERSION, "limit": 1}
        rows = await self._database.fetch(_SQL["read_snapshots"], parameters)
        for aggregate, _, version, type_name, data in rows:
            # A newer release may have stored it. The events give the same state.
            with suppress(UnknownEventError):
                return fold(None, [rebuild(type_name, aggregate, conversation_id, version, from_json(data))])
        return None

    async def _find_near(self, statement: str, time: datetime) -> int:
        # Bisection assumes that times grow. Where a clock was set back, the statement finds what bisection passed over.
        near = await self._database.fetch(_SQL["find_position_near"], {"time": time})
        found = await self._database.fetch(_SQL[statement], {"time": time, "near": near[0][0]})
        return found[0][0]

    async def _read_known(self, statement: str, **parameters: Any) -> list[Recorded]:
        """Return events that the caller has to read.

        Raises:
            UnknownEventError: a newer release wrote one of them.
        """
        return [item.known() for item in await self._read(statement, **parameters)]

    async def _read(self, statement: str, **parameters: Any) -> list[Recorded]:
        rows = await self._database.fetch(_SQL[statement], parameters)
        return [Row(*row).recorded() for row in rows]


async def read_head(connection: Connection) -> int:
    """Return the position of the last event that `connection` sees, 0 without any."""
    cursor = await connection.execute(_SQL["read_head"])
    row = await cursor.fetchone()
    return row[0] if row else 0


def audit_record(row: Any) -> dict[str, Any]:
    """Return a stored event as clients see it. `data` is JSON text.

    The id of a conversation is `conversation_id`. Events of others have `aggregate` and `aggregate_id` in its place.
    """
    position, aggregate, id_, version, type_name, data, actor, request_id, recorded_at, digest = row
    is_conversation = aggregate == ConversationEvent.AGGREGATE
    return {
        "position": position,
        **({"conversation_id": id_} if is_conversation else {"aggregate": aggregate, "aggregate_id": id_}),
        "version": version,
        "type": type_name,
        "data": data,
        "actor": actor,
        "request_id": request_id,
        "recorded_at": recorded_at,
        "digest": digest.hex(),
    }
