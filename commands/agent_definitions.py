"""The definitions of agents, read from the log."""

from domain.agent import Agent, AgentDefined, ResolvedAgent, agent_aggregate_id
from domain.decisions.agents import resolve_settings
from domain.decisions.turn_starts import TurnSettings
from domain.errors import AgentNotFoundError
from eventlog.log import LAST_POSITION, Log


class AgentDefinitions:
    """Finds agents for an owner: its own, or else a shared one of the same label.

    Each method reads the log and may raise StoreUnavailableError. `upto` is the position whose agents are found, by
    default the last. `tool_results_timeout_s` is the server's own.
    """

    # Nothing is cached, so no process uses a definition that another one has replaced, or that the log has lost.

    def __init__(self, log: Log, tool_results_timeout_s: float | None = None) -> None:
        self._log = log
        self._tool_results_timeout_s = tool_results_timeout_s

    async def find(self, owner_id: str, label: str, upto: int = LAST_POSITION) -> AgentDefined | None:
        """Return the definition that an owner's label means, None without one."""
        ids = [agent_aggregate_id(owner_id, label), agent_aggregate_id(None, label)]
        newest = {item.event.originator_id: item.event for item in await self._log.newest_events(ids, upto)}
        found = [event for id_ in ids if isinstance(event := newest.get(id_), AgentDefined)]
        return found[0] if found else None

    async def resolve(self, owner_id: str, label: str | None, settings: TurnSettings) -> TurnSettings:
        """Return the settings of a turn that starts in a conversation with this label."""
        if label is None:
            return settings
        return resolve_settings(settings, await self.find(owner_id, label))

    async def read(self, owner_id: str | None, label: str, upto: int = LAST_POSITION) -> Agent:
        """Return the agent that an owner's label means.

        Without an owner only a shared one is looked for.

        Raises:
            AgentNotFoundError: there is none.
        """
        owners = [None] if owner_id is None else [owner_id, None]
        ids = [agent_aggregate_id(each, label) for each in owners]
        agents = await self._log.agents(ids, upto)
        for id_ in ids:
            if (agent := agents.get(id_)) is not None and agent.definition is not None:
                return agent
        raise AgentNotFoundError(label)

    async def system_prompt(self, agent: ResolvedAgent) -> str | None:
        """Return the system prompt of an agent as a turn has recorded it."""
        if agent.system_prompt_sha256 is None:
            return None
        return (await self._recorded(agent)).system_prompt

    async def tool_results_timeout_s(self, agent: ResolvedAgent | None) -> float | None:
        """Return how long a turn with an agent, or without one, waits for tool results.

        None stands for no limit.
        """
        timeout_s = None if agent is None else (await self._recorded(agent)).tool_results_timeout_s
        return self._tool_results_timeout_s if timeout_s is None else timeout_s

    async def _recorded(self, agent: ResolvedAgent) -> AgentDefined:
        (recorded,) = await self._log.versions(agent.id, [agent.version])
        assert isinstance(recorded.event, AgentDefined)
        return recorded.event
