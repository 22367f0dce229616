"""Agents: their events, their settings, and their state."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import ClassVar, NamedTuple
from uuid import UUID, uuid5

from pydantic import Field

from domain.aggregates import AggregateEvent
from domain.tools import ToolDefinition
from domain.values import Frozen, Label, Sha256, Text

_NAMESPACE = UUID("6f1d2c1e-6a53-4c0b-9a0e-0d6c1b7f3a42")


def agent_aggregate_id(owner_id: str | None, label: str) -> UUID:
    """Return the id of an owner's agent, or with None of a shared agent."""
    # Neither an owner's id nor a label holds a line end, so no two agents have one name here.
    name = f"shared\n{label}" if owner_id is None else f"owner\n{owner_id}\n{label}"
    return uuid5(_NAMESPACE, name)


class AgentEvent(AggregateEvent):
    """An event of one agent."""

    AGGREGATE: ClassVar[str] = "agent"


class AgentDefined(AgentEvent):
    """An agent was defined or replaced. The event holds all of its settings."""

    owner_id: str | None = Field(description="The agent's owner, or None if every owner may use it. Server.")
    agent_id: Label = Field(description="The label by which conversations name the agent. Client.")
    system_prompt: Text | None = Field(
        default=None, description="A text for the model before the messages, or None. Client."
    )
    model: str | None = Field(default=None, description="The litellm name of the model, or None. Client.")
    max_context_tokens: int | None = Field(default=None, description="Token budget of the context, or None. Client.")
    temperature: float | None = Field(default=None, description="Sampling temperature, or None. Client.")
    tools: tuple[ToolDefinition, ...] = Field(default=(), description="The tools that the model may call. Client.")
    max_conversations: int | None = Field(
        default=None, description="The most conversations of an owner with the agent, or None for any number. Client."
    )
    retain_days: int | None = Field(
        default=None, description="Days for which conversations are kept, or None for ever. Client."
    )
    tool_results_timeout_s: float | None = Field(
        default=None, description="Seconds that a turn waits for tool results, or None for any time. Client."
    )


class AgentDeleted(AgentEvent):
    """An agent was deleted. Its conversations stay, and its label stays usable."""


class ResolvedAgent(Frozen):
    """The agent whose settings a turn uses, as it was defined when the turn started."""

    id: UUID = Field(description="The agent's aggregate. Server.")
    label: Label = Field(description="The agent's label. Server.")
    version: int = Field(ge=1, description="The version of the agent's definition. Server.")
    system_prompt_sha256: Sha256 | None = Field(
        description="The SHA-256 of the agent's system prompt in UTF-8, or None without one. Server."
    )


class AgentSettings(NamedTuple):
    """The settings that an agent gives to conversations and turns.

    None leaves a choice open.
    """

    system_prompt: str | None = None
    model: str | None = None
    max_context_tokens: int | None = None
    temperature: float | None = None
    tools: tuple[ToolDefinition, ...] = ()
    max_conversations: int | None = None
    retain_days: int | None = None
    tool_results_timeout_s: float | None = None


def agent_settings_of(defined: AgentDefined) -> AgentSettings:
    """Return the settings that a definition holds."""
    return AgentSettings(**{name: getattr(defined, name) for name in AgentSettings._fields})


def resolved_agent(defined: AgentDefined) -> ResolvedAgent:
    """Return how a turn records the agent that it uses."""
    prompt = defined.system_prompt
    return ResolvedAgent(
        id=defined.originator_id,
        label=defined.agent_id,
        version=defined.originator_version,
        system_prompt_sha256=None if prompt is None else sha256(prompt.encode()).hexdigest(),
    )


@dataclass(frozen=True, slots=True)
class Agent:
    """The state of an agent after its events.

    `definition` is None after a deletion. `created_at` is when it was defined first, since the last deletion.
    """

    id: UUID
    version: int
    created_at: datetime
    definition: AgentDefined | None


def evolve_agent(state: Agent | None, event: AgentEvent) -> Agent:
    """Return the state after `event`. The first event of an agent takes None."""
    definition = event if isinstance(event, AgentDefined) else None
    exists = state is not None and state.definition is not None
    created_at = state.created_at if state is not None and exists else event.timestamp
    return Agent(event.originator_id, event.originator_version, created_at, definition)
