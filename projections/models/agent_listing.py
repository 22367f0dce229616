"""The agents that exist, by label."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from domain.agent import Agent, AgentDefined, AgentDeleted, AgentEvent, AgentSettings, agent_settings_of
from eventlog.db.database import Database
from projections.projection import Change, Projection, Rows, json_text

_FIRST = UUID(int=0)


class AgentRow(NamedTuple):
    """An agent. `tools` is JSON text, and `owner_id` is None if the agent is shared."""

    id: UUID
    owner_id: str | None
    agent_id: str
    system_prompt: str | None
    model: str | None
    max_context_tokens: int | None
    temperature: float | None
    tools: str
    max_conversations: int | None
    retain_days: int | None
    tool_results_timeout_s: float | None
    created_at: datetime
    updated_at: datetime
    version: int


class AgentPlace(NamedTuple):
    """A place in the list of agents, which is ordered by label and id."""

    label: str
    id: UUID


class AgentsProjection(Projection):
    """Builds the list of agents, a row per agent that exists."""

    name = "agents"
    version = 1
    tables = ("agents",)
    types = frozenset({AgentDefined, AgentDeleted})

    def changes(self, events: Sequence[AgentEvent]) -> list[Change]:
        """Return the statements that delete agents, then define them."""
        # An agent that was deleted and defined again in one batch is deleted first, so that it counts as a new one.
        deleted = {event.originator_id: {"id": event.originator_id} for event in events if _deletes(event)}
        defined = [_column_values(row) for row in remaining_agents(events)]
        statements = {"delete_agents": list(deleted.values()), "upsert_agents": defined}
        return [self.sql.change(name, rows) for name, rows in statements.items() if rows]

    def rows(self, events: Sequence[AgentEvent]) -> Rows:
        """Return a row for each agent that remains."""
        return {"agents": [tuple(row) for row in remaining_agents(events)]}


def remaining_agents(events: Sequence[AgentEvent]) -> list[AgentRow]:
    """Return the rows of the agents that are defined after `events`."""
    found: dict[UUID, AgentRow] = {}
    for event in events:
        if isinstance(event, AgentDefined):
            before = found.get(event.originator_id)
            found[event.originator_id] = _row(event, before.created_at if before else event.timestamp)
        else:
            found.pop(event.originator_id, None)
    return list(found.values())


def agent_row(agent: Agent) -> AgentRow:
    """Return the row of an agent that exists."""
    assert agent.definition is not None
    return _row(agent.definition, agent.created_at)


_SQL = AgentsProjection().sql


class AgentListing:
    """Reads the list of agents. A method may raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        owner_id: str | None,
        beyond: AgentPlace | None,
        limit: int,
        among: Sequence[AgentRow] | None = None,
    ) -> list[AgentRow]:
        """Return at most `limit` agents after a place, by label.

        They are those that an owner can use: its own, and the shared ones that none of its own hides. With None they
        are those of all owners. It is a page of all agents, or of the rows `among`.
        """
        label, id_ = beyond or AgentPlace("", _FIRST)
        parameters: dict[str, Any] = {"owner_id": owner_id, "label": label, "id": id_, "limit": limit}
        parts = [("read",)] if owner_id is None else [("read", "and_of_owner"), ("read", "and_shared")]
        reads = [b"\n".join(map(_SQL.reading, (*part, "first"))) for part in parts]
        # Each part stops at the limit, so that a page reads few rows however many agents there are.
        statement = reads[0]
        if len(reads) > 1:
            union = b"\nUNION ALL\n".join(b"(%s)" % read for read in reads)
            statement = b"SELECT * FROM (%s) AS usable\n%s" % (union, _SQL.reading("first"))
        if among is not None:
            statement = _SQL.reading("with_rows") + b"\n" + statement
            parameters["rows"] = orjson.dumps(list(map(_column_values, among))).decode()
        return [AgentRow(*row) for row in await self._database.fetch(statement, parameters)]


def _column_values(row: AgentRow) -> dict[str, Any]:
    return {**row._asdict(), "tools": orjson.Fragment(row.tools)}


def _deletes(event: AgentEvent) -> bool:
    return isinstance(event, AgentDeleted)


def _row(defined: AgentDefined, created_at: datetime) -> AgentRow:
    settings: AgentSettings = agent_settings_of(defined)
    shown: dict[str, Any] = {**settings._asdict(), "tools": json_text(settings.tools)}
    return AgentRow(
        id=defined.originator_id,
        owner_id=defined.owner_id,
        agent_id=defined.agent_id,
        **shown,
        created_at=created_at,
        updated_at=defined.timestamp,
        version=defined.originator_version,
    )
