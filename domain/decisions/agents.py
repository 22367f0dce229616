"""Decisions on agents, and the settings that they give to a turn."""

from collections.abc import Collection
from typing import TypeVar

from domain.agent import (
    Agent,
    AgentDefined,
    AgentDeleted,
    AgentEvent,
    AgentSettings,
    agent_aggregate_id,
    resolved_agent,
)
from domain.aggregates import ENVELOPE_FIELDS
from domain.decisions.conversations import Origin, envelope
from domain.decisions.turn_starts import TurnSettings
from domain.errors import AgentNotFoundError, VersionMismatchError
from domain.values import same_json

AgentEvents = list[AgentEvent]
T = TypeVar("T")


def define_agent(
    state: Agent | None,
    origin: Origin,
    owner_id: str | None,
    label: str,
    settings: AgentSettings,
    expected_versions: Collection[int] | None = None,
) -> AgentEvents:
    """Return the definition of an agent, or no event if it is the current one.

    The agent is shared if `owner_id` is None.

    Raises:
        VersionMismatchError: the agent is at none of `expected_versions`, or does not exist.
    """
    _check_version(state, expected_versions)
    version = state.version + 1 if state else 1
    defined = AgentDefined(
        **envelope(agent_aggregate_id(owner_id, label), version, origin),
        owner_id=owner_id,
        agent_id=label,
        **settings._asdict(),
    )
    if state and state.definition and _same(state.definition, defined):
        return []
    return [defined]


def delete_agent(
    state: Agent | None, origin: Origin, label: str, expected_versions: Collection[int] | None = None
) -> AgentEvents:
    """Return the deletion of an agent.

    Raises:
        AgentNotFoundError: there is no such agent.
        VersionMismatchError: it is at none of `expected_versions`.
    """
    if state is None or state.definition is None:
        raise AgentNotFoundError(label)
    _check_version(state, expected_versions)
    return [AgentDeleted(**envelope(state.id, state.version + 1, origin))]


def resolve_settings(settings: TurnSettings, defined: AgentDefined | None) -> TurnSettings:
    """Return the settings of a turn that starts.

    The request's come first, then the agent's, then the server's. Without a definition nothing changes.
    """
    if defined is None:
        return settings
    return settings._replace(
        model=defined.model if defined.model and "model" in settings.left_open else settings.model,
        max_context_tokens=_first(settings.max_context_tokens, defined.max_context_tokens),
        temperature=_first(settings.temperature, defined.temperature),
        tools=defined.tools if "tools" in settings.left_open else settings.tools,
        left_open=(),
        agent=resolved_agent(defined),
    )


def _check_version(state: Agent | None, expected: Collection[int] | None) -> None:
    actual = state.version if state and state.definition else None
    # A range looks an integer up at once, and anything else by a search.
    if expected is not None and (actual is None or actual not in expected):
        raise VersionMismatchError(actual, "agent")


def _first(given: T | None, other: T | None) -> T | None:
    return other if given is None else given


def _same(one: AgentDefined, other: AgentDefined) -> bool:
    shown = [each.model_dump(mode="json", exclude=set(ENVELOPE_FIELDS)) for each in (one, other)]
    return same_json(*shown)
