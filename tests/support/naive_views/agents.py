"""A naive view of the agents."""

from collections.abc import Iterable
from uuid import UUID

from domain.agent import AgentDefined, AgentDeleted
from domain.aggregates import AggregateEvent
from tests.support.naive_views.rows import Row

SETTINGS = ("system_prompt", "model", "max_context_tokens", "temperature")
LIMITS = ("max_conversations", "retain_days", "tool_results_timeout_s")


def naive_agents(events: Iterable[AggregateEvent]) -> list[Row]:
    agents: dict[UUID, Row] = {}
    for event in events:
        if isinstance(event, AgentDefined):
            created_at = agents.get(event.originator_id, {}).get("created_at", event.timestamp)
            agents[event.originator_id] = {
                "id": event.originator_id,
                "owner_id": event.owner_id,
                "agent_id": event.agent_id,
                **{name: getattr(event, name) for name in (*SETTINGS, *LIMITS)},
                "tools": [tool.model_dump(mode="json") for tool in event.tools],
                "created_at": created_at,
                "updated_at": event.timestamp,
                "version": event.originator_version,
            }
        elif isinstance(event, AgentDeleted):
            del agents[event.originator_id]
    return list(agents.values())
